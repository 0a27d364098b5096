/** `throughline traces [filter]`. */
import { Command, Option } from 'commander'
import type { Filter } from '../../query/filter/ast.js'
import { fieldsOf, nearestName } from '../../query/filter/fields.js'
import { FilterSyntaxError } from '../../query/filter/syntax-error.js'
import { type FoundTraces, listTraces } from '../../query/traces/list-traces.js'
import { isTraceField, TRACE_FIELDS } from '../../query/traces/trace-entry.js'
import { localDirectory } from '../../telemetry/local-directory.js'
import { LOG_FIELD } from '../../telemetry/names.js'
import { countArgument } from '../arguments/count-argument.js'
import { durationArgument } from '../arguments/duration-argument.js'
import { type FilterOptions, filterOf, momentArgument, syntaxErrorText } from '../logs/log-filter.js'
import { printable, printableDocument } from '../terminal/printable.js'
import { terminalOf } from '../terminal/terminal.js'
import { noTracesText } from './no-traces.js'
import { renderTraces } from './render-traces.js'

interface TracesOptions extends Omit<FilterOptions, 'trace' | 'digest'> {
  errors?: boolean
  /** Milliseconds. */
  slow?: number
  service?: string
  count: number
  sort: 'time' | 'duration'
  json?: boolean
  color: boolean
  dir?: string
}

const DEFAULT_COUNT = 20

const USAGE_STATUS = 2

const HELP = `
Reads the span files that the app writes when no OTLP endpoint is configured. A trace is a request, or one attempt of
a worker at a message. Its ID, in the list, is what \`throughline trace\` takes: whole, or its beginning.

The filter, in the language of \`throughline logs\`, asks of each trace:
  time, duration_ms              when it started, and how long it took
  name, method, route, status    of the request
  action, outcome                the Server Action, and how it ended: ok, redirect, error, …
  topic, attempt                 of a message that a worker handled; its outcome is handled, retried, dead, …
  correlation_id, trace_id
  service, services              of its first span, and all
  spans, errors                  how many spans, and how many of them failed
  hit, hits, race                repeated idempotency keys; two requests that missed a key at once
  idempotency.outcome, idempotency.key_hash, idempotency.hit
  complete                       false while its first span is not written

Examples:
  $ throughline traces                                   the last ${DEFAULT_COUNT}
  $ throughline traces --slow 500ms --since 1h
  $ throughline traces --hits --action createOrder       that used a key again
  $ throughline traces --errors -n 5 --json | jq -r '.traces[].traceId'
  $ throughline traces 'status >= 500 or outcome = dead'
  $ throughline traces 'attempt > 1' --sort duration

With --json, one document:
  { "traces": [{ "traceId", "correlationId", "startTimeMs", "durationMs", "name", "method", "route", "status",
                 "action", "outcome", "topic", "attempt", "service", "services": [], "spans", "errors", "hits",
                 "isRace", "idempotencyOutcome", "keyHash", "isComplete" }],
    "total", "leftOut", "unreadableLines" }
  Times are epoch milliseconds. What is not known is left out. "total" counts all that match, "leftOut" older ones
  that were not looked at: the newest 100 000 traces are.

Exit status: 0 found, 1 nothing found or failed, 2 usage.`

/** The command. It sets `process.exitCode`. */
export function tracesCommand(): Command {
  return new Command('traces')
    .description('list traces: requests and attempts of a worker, the newest first')
    .argument('[filter]', 'which traces; without one, all')
    .option('--since <moment>', 'started not before: 15m, 2h, 3d ago, or a time', momentArgument)
    .option('--until <moment>', 'started before', momentArgument)
    .option('--hits', 'that used an idempotency key again')
    .option('--errors', 'with a span that failed')
    .option('--slow <duration>', 'that took so long or longer: 500ms, 2s, 1m', durationArgument)
    .option('--route <route>', 'of that route')
    .option('--action <name>', 'of that action')
    .option('--correlation <id>', 'with that correlation ID')
    .option('--service <name>', 'with a span of that service')
    .option('-n, --count <count>', 'most traces to list', countArgument(1_000_000), DEFAULT_COUNT)
    .addOption(
      new Option('--sort <order>', 'newest or longest first').choices(['time', 'duration']).default('time'),
    )
    .option('--dir <path>', 'directory of the files (default: THROUGHLINE_DIR, else .throughline)')
    .option('--json', 'one JSON document instead of the table')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
    .addHelpText('after', HELP)
    .action(traces)
}

async function traces(source: string | undefined, options: TracesOptions): Promise<void> {
  let filter: Filter | undefined
  try {
    filter = traceFilterOf(source, options)
  } catch (error) {
    if (!(error instanceof FilterSyntaxError)) throw error
    return fail(syntaxErrorText(error, 'traces'), USAGE_STATUS)
  }
  const unknown = filter && fieldsOf(filter).find((field) => !isTraceField(field))
  if (unknown !== undefined) return fail(unknownFieldText(unknown.join('.')), USAGE_STATUS)

  const env = options.dir === undefined ? process.env : { THROUGHLINE_DIR: options.dir }
  const directory = localDirectory(env, process.cwd())
  const { service, sort, count: limit } = options
  const answer = await listTraces(directory, { filter, service, sort, limit })
  if (answer.kind === 'nothing') return fail(noTracesText(answer, options, directory), 1)
  process.stdout.write(
    options.json === true
      ? tracesJson(answer)
      : renderTraces(answer, terminalOf(process.stdout, process.env, options.color)),
  )
}

/** Undefined when every trace is asked for. @throws {FilterSyntaxError} */
function traceFilterOf(source: string | undefined, options: TracesOptions): Filter | undefined {
  const asked: Filter[] = []
  const filter = filterOf(source, options)
  if (filter !== undefined) asked.push(filter)
  if (options.errors === true) asked.push({ kind: 'compare', field: ['errors'], comparison: '>', value: 0 })
  const { slow } = options
  if (slow !== undefined)
    asked.push({ kind: 'compare', field: [LOG_FIELD.durationMs], comparison: '>=', value: slow })
  return asked.length === 0 ? undefined : asked.reduce((left, right) => ({ kind: 'and', left, right }))
}

function tracesJson({ kind: _, ...document }: FoundTraces): string {
  return printableDocument(document)
}

function unknownFieldText(name: string): string {
  const nearest = nearestName(name, TRACE_FIELDS)
  const meant = nearest === undefined ? '' : ` Did you mean "${nearest}"?`
  return [
    `throughline: a trace has no field "${printable(name)}".${meant}`,
    `  It has: ${TRACE_FIELDS.join(', ')}.`,
    'See: throughline traces --help',
    '',
  ].join('\n')
}

function fail(text: string, status: number): void {
  process.stderr.write(text)
  process.exitCode = status
}
