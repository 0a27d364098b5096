/** `throughline logs [filter] [files…]`. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { countBy, histogram, percentileBy } from '../query/aggregate.js'
import type { FieldPath, Filter } from '../query/filter/ast.js'
import { fieldsOf, nearestName } from '../query/filter/fields.js'
import { parseField } from '../query/filter/parse.js'
import { printField } from '../query/filter/print.js'
import { FilterSyntaxError } from '../query/filter/syntax-error.js'
import { type FoundLine, findLogs, SAMPLED_LINES } from '../query/find-logs.js'
import type { ReadTally } from '../query/ndjson-files.js'
import { openRemote } from '../query/remote/index.js'
import { STDIN } from '../query/sources.js'
import { LOGS_FOLDER, localDirectory } from '../telemetry/local-directory.js'
import { countArgument } from './count-argument.js'
import { type FilterOptions, filterOf, idsOf, momentArgument, syntaxErrorText } from './log-filter.js'
import { printable, printableDocument, printableJson } from './printable.js'
import { renderGroups, renderHistogram } from './render-groups.js'
import { renderLog } from './render-log.js'
import { spanArgument } from './span-argument.js'
import { terminalOf } from './terminal.js'

interface LogsOptions extends FilterOptions {
  count?: number
  fields?: FieldPath[]
  countBy?: FieldPath[]
  p50?: FieldPath
  p95?: FieldPath
  p99?: FieldPath
  by?: FieldPath[]
  /** Milliseconds. */
  histogram?: number
  json?: boolean
  color: boolean
  dir?: string
  /** URL of a store on another machine. */
  source?: string
}

const PERCENTILES = ['p50', 'p95', 'p99'] as const

/** Groups that are listed, unless -n says how many. */
const DEFAULT_GROUPS = 30

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
  $ throughline logs --count-by action,status                 how many of each
  $ throughline logs --p95 duration_ms --by route
  $ throughline logs 'level = error' --histogram 1m
  $ throughline logs 'level = error' --source loki+http://localhost:3100    the last hour, unless --since says more

With --json, each line as it was written; of counts, one document: [{ "values": { "action": … }, "count" }].

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
    .option('-n, --count <count>', 'the last lines found, so many', countArgument(1_000_000))
    .option('--fields <names>', 'these fields alone, beside time, level and message', fieldsArgument)
    .option('--count-by <names>', 'how many lines, by the values of these fields', fieldsArgument)
    .option('--p50 <name>', 'the median of that field', fieldArgument)
    .option('--p95 <name>', 'its 95th percentile', fieldArgument)
    .option('--p99 <name>', 'its 99th percentile', fieldArgument)
    .option('--by <names>', 'percentiles by the values of these fields', fieldsArgument)
    .option('--histogram <span>', 'how many lines in each span of time: 30s, 1m, 1h', spanArgument)
    .option(
      '--source <url>',
      'ask Loki or ClickHouse instead: loki+http://host:3100, clickhouse://user:password@host:8123/db',
    )
    .option('--dir <path>', 'directory of the files (default: THROUGHLINE_DIR, else .throughline)')
    .option('--json', 'the lines as they were written')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
    .addHelpText('after', HELP)
    .action(logs)
}

async function logs(
  filter: string | undefined,
  files: string[],
  options: LogsOptions,
  command: Command,
): Promise<void> {
  if (options.source !== undefined && files.length > 0)
    command.error('error: --source asks a store: name no files with it.')
  const kinds = ['countBy', ...PERCENTILES, 'histogram'].filter((name) => name in options)
  if (kinds.length > 1)
    command.error('error: --count-by, --p50, --p95, --p99 and --histogram each make a table: name one.')
  if (options.by !== undefined && !PERCENTILES.some((name) => name in options))
    command.error('error: --by groups a percentile: name one, as --p95 duration_ms.')
  // The first may well be a file: what is one is no filter.
  const isFile = filter !== undefined && (filter === STDIN || existsSync(filter))
  const named = isFile ? [filter, ...files] : files
  const env = options.dir === undefined ? process.env : { THROUGHLINE_DIR: options.dir }
  const directory = join(localDirectory(env, process.cwd()), LOGS_FOLDER)
  const tally: ReadTally = { files: 0, unreadableLines: 0 }
  const paths = named.length > 0 ? named : existsSync(directory) ? [directory] : []
  try {
    const asked = filterOf(isFile ? undefined : filter, options)
    const names = new Set<string>()
    const lines =
      options.source === undefined
        ? findLogs({ paths, filter: asked, containing: idsOf(options), tally, names })
        : openRemote(options.source).find({ filter: asked })
    const found = kinds.length > 0 ? await printTable(lines, options) : await printFound(lines, options)
    if (found === 0) {
      const looked = options.source === undefined ? paths : [openRemote(options.source).name]
      return tellNothing(looked.length > 0 ? looked : [directory], tally, asked, names)
    }
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

/** Returns how many rows there are. */
async function printTable(lines: AsyncIterable<FoundLine>, options: LogsOptions): Promise<number> {
  const entries = entriesOf(lines)
  const terminal = terminalOf(process.stdout, process.env, options.color)
  if (options.histogram !== undefined) {
    const buckets = await histogram(entries, options.histogram)
    if (buckets.length > 0)
      process.stdout.write(options.json ? printableDocument(buckets) : renderHistogram(buckets, terminal))
    return buckets.length
  }
  const by = options.countBy ?? options.by ?? []
  const names = by.map(printField)
  const kind = PERCENTILES.find((name) => options[name] !== undefined)
  const field = kind === undefined ? undefined : options[kind]
  const groups =
    kind === undefined || field === undefined
      ? await countBy(entries, by)
      : await percentileBy(entries, { field, percent: Number(kind.slice(1)), by })
  if (groups.length === 0) return 0
  const shown = groups.slice(0, options.count ?? DEFAULT_GROUPS)
  const percentile = field === undefined ? {} : { percentile: `${kind} ${printField(field)}` }
  process.stdout.write(
    options.json
      ? printableDocument(groups.map(({ values, ...group }) => ({ values: named(names, values), ...group })))
      : renderGroups({ names, groups: shown, total: groups.length, ...percentile }, terminal),
  )
  return groups.length
}

async function* entriesOf(lines: AsyncIterable<FoundLine>): AsyncGenerator<FoundLine['entry']> {
  for await (const { entry } of lines) yield entry
}

function named(names: readonly string[], values: readonly (string | undefined)[]): object {
  return Object.fromEntries(names.map((name, index) => [name, values[index]]))
}

function tellNothing(
  paths: readonly string[],
  tally: ReadTally,
  filter: Filter | undefined,
  names: ReadonlySet<string>,
): void {
  process.stderr.write(
    [
      'throughline: no line found.',
      `  Looked in:  ${paths.map(printable).join(', ')}: ${tally.files} ${tally.files === 1 ? 'file' : 'files'}. ${unreadableText(tally)}`.trimEnd(),
      ...suggestions(filter, names),
      '  Check that: the filter is not too narrow, and --since not too late;',
      '              --dir, THROUGHLINE_DIR or a path names where the app writes its lines.',
      '',
    ].join('\n'),
  )
  process.exitCode = 1
}

function suggestions(filter: Filter | undefined, names: ReadonlySet<string>): string[] {
  if (filter === undefined || names.size === 0) return []
  return fieldsOf(filter)
    .map((field) => field.join('.'))
    .filter((name) => !names.has(name))
    .map((name) => {
      const nearest = nearestName(name, names)
      const meant = nearest === undefined ? '' : ` Did you mean "${printable(nearest)}"?`
      return `  None of the first ${SAMPLED_LINES} lines has a field "${printable(name)}".${meant}`
    })
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

function fieldArgument(value: string): FieldPath {
  const [field, ...others] = fieldsArgument(value)
  if (field !== undefined && others.length === 0) return field
  throw new InvalidArgumentError('It is one field: duration_ms.')
}
