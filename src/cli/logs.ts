/** `throughline logs [filter] [files…]`. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import type { FieldPath } from '../query/filter/ast.js'
import { parseField } from '../query/filter/parse.js'
import { FilterSyntaxError } from '../query/filter/syntax-error.js'
import { type FoundLine, findLogs } from '../query/find-logs.js'
import { STDIN } from '../query/log-sources.js'
import type { ReadTally } from '../query/ndjson-files.js'
import { LOGS_FOLDER, localDirectory } from '../telemetry/local-directory.js'
import { type FilterOptions, filterOf, idsOf, momentArgument, syntaxErrorText } from './log-filter.js'
import { printable, printableJson } from './printable.js'
import { renderLog } from './render-log.js'
import { terminalOf } from './terminal.js'

interface LogsOptions extends FilterOptions {
  count?: number
  fields?: FieldPath[]
  json?: boolean
  color: boolean
  dir?: string
}

const USAGE_STATUS = 2

const HELP = `
Reads pino's NDJSON: by default the files that the app writes in development, else the files and folders that are
named, packed or not (.gz, .zst), and - for standard input. A line that is no JSON is counted and left out.

The filter:
  level >= warn and action = createOrder      and, or, not, parentheses
  status in (500, 502)                        = != < <= > >= in, not in
  msg ~ 'timed out'                           ~ contains, whatever its case; ~~ matches a regular expression
  exists(err) and idempotency.hit = true      nested fields by dots; \`odd names\` in backticks
  A text is in quotes, or bare when it is one word. Levels are ranked by name. A field that a line lacks makes a
  comparison false.

Examples:
  $ throughline logs 'level >= warn' --since 15m
  $ throughline logs --correlation 4bf92f3577b34da6a3ce929d0e0e4736
  $ throughline logs --digest 1822372713                      the ID that a user sees on Next's error page
  $ throughline logs 'duration_ms > 250' --fields route,duration_ms -n 20
  $ kubectl logs deploy/shop | throughline logs 'level >= error' -
  $ throughline logs 'exists(err)' /var/log/shop --json | jq -r .err.message

With --json, each line as it was written.

Exit status: 0 found, 1 nothing found or failed, 2 usage.`

/** The command. It sets `process.exitCode`. */
export function logsCommand(): Command {
  return new Command('logs')
    .description('find log lines by a filter')
    .argument('[filter]', 'which lines; without one, all')
    .argument('[files...]', 'files, folders, or - for standard input')
    .option('--since <moment>', 'not before: 15m, 2h, 3d ago, or a time', momentArgument)
    .option('--until <moment>', 'before', momentArgument)
    .option('--correlation <id>', 'lines with that correlation ID')
    .option('--trace <id>', 'lines with that trace ID')
    .option('--digest <digest>', "errors with that digest, as Next's error page shows it")
    .option('--action <name>', 'lines of that action')
    .option('--route <route>', 'lines of that route')
    .option('--hits', 'lines that tell of a repeated idempotency key')
    .option('-n, --count <count>', 'the last lines found, so many', countArgument)
    .option('--fields <names>', 'these fields alone, beside time, level and message', fieldsArgument)
    .option('--dir <path>', 'directory of the files (default: THROUGHLINE_DIR, else .throughline)')
    .option('--json', 'the lines as they were written')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
    .addHelpText('after', HELP)
    .action(logs)
}

async function logs(filter: string | undefined, files: string[], options: LogsOptions): Promise<void> {
  // The first may well be a file: what is one is no filter.
  const isFile = filter !== undefined && (filter === STDIN || existsSync(filter))
  const named = isFile ? [filter, ...files] : files
  const env = options.dir === undefined ? process.env : { THROUGHLINE_DIR: options.dir }
  const directory = join(localDirectory(env, process.cwd()), LOGS_FOLDER)
  const tally: ReadTally = { files: 0, unreadableLines: 0 }
  const paths = named.length > 0 ? named : existsSync(directory) ? [directory] : []
  try {
    const query = {
      paths,
      filter: filterOf(isFile ? undefined : filter, options),
      containing: idsOf(options),
      tally,
    }
    const found = await printFound(findLogs(query), options)
    if (found === 0) return tellNothing(paths.length > 0 ? paths : [directory], tally)
  } catch (error) {
    if (!(error instanceof FilterSyntaxError)) throw error
    process.stderr.write(syntaxErrorText(error))
    process.exitCode = USAGE_STATUS
    return
  }
  if (tally.unreadableLines > 0) process.stderr.write(`throughline: ${unreadableText(tally)}\n`)
}

/** Prints as it finds, or at the end the last ones; returns how many. */
async function printFound(lines: AsyncIterable<FoundLine>, options: LogsOptions): Promise<number> {
  const terminal = terminalOf(process.stdout, process.env, options.color)
  const print = async ({ text, entry }: FoundLine) => {
    const shown = options.json
      ? `${printableJson(text.trim())}\n`
      : renderLog(entry, options.fields, terminal)
    // A pipe that is full is waited for: memory stays bounded.
    if (!process.stdout.write(shown)) await new Promise((resolve) => process.stdout.once('drain', resolve))
  }
  const last: FoundLine[] = []
  let found = 0
  for await (const line of lines) {
    found += 1
    if (options.count === undefined) await print(line)
    else if (last.push(line) > options.count) last.shift()
  }
  for (const line of last) await print(line)
  return found
}

function tellNothing(paths: readonly string[], tally: ReadTally): void {
  process.stderr.write(
    [
      'throughline: no line found.',
      `  Looked in:  ${paths.map(printable).join(', ')}: ${tally.files} ${tally.files === 1 ? 'file' : 'files'}. ${unreadableText(tally)}`.trimEnd(),
      '  Check that: the filter is not too narrow, and --since not too late;',
      '              --dir, THROUGHLINE_DIR or a path names where the app writes its lines.',
      '',
    ].join('\n'),
  )
  process.exitCode = 1
}

function unreadableText({ unreadableLines: lines }: ReadTally): string {
  if (lines === 0) return ''
  return lines === 1 ? '1 line is no JSON and was left out.' : `${lines} lines are no JSON and were left out.`
}

function fieldsArgument(value: string): FieldPath[] {
  try {
    return value.split(',').map((name) => parseField(name.trim()))
  } catch {
    throw new InvalidArgumentError('Fields are named with commas between: route,err.message.')
  }
}

function countArgument(value: string): number {
  const count = Number(value)
  if (/^\d+$/.test(value) && count > 0 && count <= 1_000_000) return count
  throw new InvalidArgumentError('A count is a whole number from 1 to 1000000.')
}
