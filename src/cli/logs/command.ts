/** `throughline logs [filter] [files…]`. */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { isThroughlineError, type ThroughlineError } from '../../errors.js'
import { bytesOfFiles, filesAtAll, STDIN } from '../../query/files/sources.js'
import { FilterSyntaxError } from '../../query/filter/syntax-error.js'
import type { RemoteLogs } from '../../query/remote/contract.js'
import { LOGS_FOLDER, localDirectory } from '../../telemetry/local-directory.js'
import { countArgument } from '../arguments/count-argument.js'
import { spanArgument } from '../arguments/span-argument.js'
import { openOutput } from '../terminal/output.js'
import { printable } from '../terminal/printable.js'
import { type Progress, showProgress } from '../terminal/progress.js'
import { terminalOf } from '../terminal/terminal.js'
import { answer } from './answer.js'
import { HELP } from './help.js'
import { filterOf, idsOf, momentArgument, syntaxErrorText } from './log-filter.js'
import { brokenText, nothingFoundText } from './nothing-found.js'
import { conflictOf, fieldArgument, fieldsArgument, type LogsOptions, type Question } from './options.js'

const USAGE_STATUS = 2

/** Most lines that are kept until they are printed. */
const MAX_COUNT = 1_000_000
const MAX_CONTEXT = 1_000

/** The command. It sets `process.exitCode`. */
export function logsCommand(): Command {
  return new Command('logs')
    .description('find log lines by a filter')
    .argument('[filter]', 'which lines; without one, all')
    .argument('[files...]', 'files, folders, patterns, or - for standard input')
    .option('--since <moment>', 'not before: 15m, 2h, 3d ago, or a time', momentArgument)
    .option('--until <moment>', 'before', momentArgument)
    .option('--correlation <id>', 'lines with that correlation ID')
    .option('--trace <id>', 'lines with that trace ID')
    .option('--digest <digest>', "errors with that digest, as Next's error page shows it")
    .option('--action <name>', 'lines of that action')
    .option('--route <route>', 'lines of that route')
    .option('--hits', 'lines that tell of a repeated idempotency key')
    .option('-n, --count <count>', 'the last lines found, so many', countArgument(MAX_COUNT))
    .option(
      '-C, --context <count>',
      'so many lines of the same request around each',
      countArgument(MAX_CONTEXT),
    )
    .option('-f, --follow', 'the last ten found, and those that come, until Ctrl-C')
    .option('--fields <names>', 'these fields alone, beside time, level and message', fieldsArgument)
    .option('--count-by <names>', 'how many lines, by the values of these fields', fieldsArgument)
    .option('--p50 <name>', 'the median of that field', fieldArgument)
    .option('--p95 <name>', 'its 95th percentile', fieldArgument)
    .option('--p99 <name>', 'its 99th percentile', fieldArgument)
    .option('--by <names>', 'percentiles by the values of these fields', fieldsArgument)
    .option('--histogram <span>', 'how many lines in each span of time: 30s, 1m, 1h', spanArgument)
    .option('--sql <query>', 'ask the lines found in SQL, as the table logs')
    .option(
      '--source <url>',
      'ask Loki or ClickHouse instead: loki+http://host:3100, clickhouse://user:password@host:8123/db',
    )
    .option('--dir <path>', 'directory of the files (default: THROUGHLINE_DIR, else .throughline)')
    .option('--json', 'the lines as they were written; tables as JSON')
    .option('--csv', 'comma-separated values, with a heading')
    .option('--no-pager', 'print to the terminal itself')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
    .addHelpText('after', HELP)
    .action(logs)
}

async function logs(
  given: string | undefined,
  files: string[],
  options: LogsOptions,
  command: Command,
): Promise<void> {
  // The first may well be a file: what is one is no filter.
  const isFile = given !== undefined && (given === STDIN || existsSync(given))
  const named = isFile ? [given, ...files] : files
  const conflict = conflictOf(options, named, STDIN)
  if (conflict !== undefined) command.error(`error: ${conflict}`)

  const env = options.dir === undefined ? process.env : { THROUGHLINE_DIR: options.dir }
  const directory = join(localDirectory(env, process.cwd()), LOGS_FOLDER)
  const lookedIn = named.length > 0 ? named : [directory]
  let question: Question
  try {
    question = {
      filter: filterOf(isFile ? undefined : given, options),
      containing: idsOf(options),
      // A folder that the app has not made yet is empty.
      paths: lookedIn.filter((path) => path !== directory || options.follow === true || existsSync(path)),
      remote: options.source === undefined ? undefined : await remoteAt(options.source),
      tally: { files: 0, unreadableLines: 0 },
      names: new Set(),
    }
  } catch (error) {
    if (!(error instanceof FilterSyntaxError)) throw error
    process.stderr.write(syntaxErrorText(error))
    process.exitCode = USAGE_STATUS
    return
  }
  const { tally } = question
  // What is followed never ends.
  const progress = options.follow === true ? undefined : await showReading(question, options.color)
  const output = openOutput({
    isPaged: options.pager && options.follow !== true,
    env: process.env,
    beforeWrite: (to) => (to === 'pager' ? progress?.end() : progress?.clear()),
  })
  try {
    const terminal = terminalOf(process.stdout, process.env, options.color)
    const found = await answer(question, options, output, terminal)
    await output.end()
    progress?.end()
    if (found > 0 && tally.unreadableLines > 0) process.stderr.write(`throughline: ${brokenText(tally)}\n`)
    if (found > 0 || output.isClosed) return
    process.stderr.write(nothingFoundText(question, lookedIn))
    process.exitCode = 1
  } catch (error) {
    if (!isThroughlineError(error) || error.code !== 'SQL_INVALID') throw error
    process.stderr.write(sqlErrorText(error))
    process.exitCode = USAGE_STATUS
  } finally {
    progress?.end()
  }
}

async function remoteAt(url: string): Promise<RemoteLogs> {
  return (await import('../../query/remote/index.js')).openRemote(url)
}

/** DuckDB's own words, with the mark that it sets below the SQL. */
function sqlErrorText({ why }: ThroughlineError): string {
  const said = why.split('\n').map((line) => `  ${printable(line)}`.trimEnd())
  return ['throughline: the SQL cannot be answered:', ...said, 'See: throughline logs --help', ''].join('\n')
}

async function showReading({ paths, tally }: Question, isColored: boolean): Promise<Progress> {
  const totalBytes = await bytesOfFiles(await filesAtAll(paths))
  const share = () => (tally.bytes === undefined ? undefined : tally.bytes / totalBytes)
  return showProgress('reading', share, isColored)
}
