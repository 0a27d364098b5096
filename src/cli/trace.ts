/** `throughline trace <id>`. */
import { Command, InvalidArgumentError } from 'commander'
import { MIN_PREFIX_LENGTH } from '../query/asked-id.js'
import { type FoundTrace, findTrace } from '../query/find-trace.js'
import { buildTraceTrees } from '../query/trace-tree.js'
import { localDirectory } from '../telemetry/local-directory.js'
import { noTraceText } from './no-trace.js'
import { renderTrace } from './render-trace.js'
import { terminalOf } from './terminal.js'
import { traceJson } from './trace-json.js'

interface TraceOptions {
  dir?: string
  json?: boolean
  color: boolean
  logs: boolean
}

const HELP = `
Reads the span and log files that the app writes when no OTLP endpoint is configured.

What it is found by:
  correlation ID    the x-correlation-id of a response; all traces that have it
  trace ID
  digest            that Next shows on its error page; whole
  hash of a key     as spans and \`throughline keys\` have it; whole: its first use, then those that repeat it
What is all of an ID goes before what only begins so, and an ID of a request before a digest or a hash.

Examples:
  $ throughline trace 4bf92f3577b34da6a3ce929d0e0e4736     a correlation ID or a trace ID
  $ throughline trace 4bf92f                               its beginning, if no other ID begins so
  $ throughline trace 2338842346                           the digest on an error page
  $ throughline trace 9c1f4a7be0d2c355                     all uses of a key
  $ throughline trace order-7 --dir ../shop/.throughline   files of another app
  $ throughline trace 4bf92f --json | jq '.spans[].name'   for programs

With --json, one document:
  { "id", "foundBy": "correlation" | "trace" | "digest" | "key", "traceIds": [], "correlationIds": [],
    "spans": [{ "traceId", "spanId", "parentSpanId", "isParentRemote", "name", "kind", "service",
                "startTimeMs", "durationMs", "status", "statusMessage", "attributes": {}, "events": [], "links": [] }],
    "logs":  [{ "timeMs", "level", "message", "service", "traceId", "spanId", "correlationId", "fields": {} }],
    "isTruncated", "unreadableLines" }
  Times are epoch milliseconds. Spans are flat, by start time.

Exit status: 0 found, 1 nothing found or failed, 2 usage.`

/** The command. It sets `process.exitCode`. */
export function traceCommand(): Command {
  return new Command('trace')
    .description('show one request as a tree: spans, durations, repeated keys, log lines in between')
    .argument(
      '<id>',
      `correlation ID or trace ID, or its first ${MIN_PREFIX_LENGTH} or more characters; error digest; hash of a key`,
      wholeArgument,
    )
    .option('--dir <path>', 'directory of the files (default: THROUGHLINE_DIR, else .throughline)')
    .option('--json', 'one JSON document instead of the tree')
    .option('--no-logs', 'leave log lines out')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
    .addHelpText('after', HELP)
    .action(trace)
}

async function trace(id: string, options: TraceOptions): Promise<void> {
  const directory = localDirectory(
    options.dir === undefined ? process.env : { THROUGHLINE_DIR: options.dir },
    process.cwd(),
  )
  const answer = await findTrace(directory, id)
  if (answer.kind !== 'found') {
    process.stderr.write(noTraceText(answer, id, directory))
    process.exitCode = 1
    return
  }
  const found: FoundTrace = options.logs ? answer : { ...answer, logs: [] }
  process.stdout.write(
    options.json === true
      ? traceJson(found)
      : renderTrace(
          found,
          buildTraceTrees(found.spans, found.logs),
          terminalOf(process.stdout, process.env, options.color),
        ),
  )
}

function wholeArgument(value: string): string {
  if (value.trim() === '') throw new InvalidArgumentError('An ID has at least one character.')
  return value.trim()
}
