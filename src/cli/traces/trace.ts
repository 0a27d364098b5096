/** `throughline trace <id>`. */
import { Command, InvalidArgumentError } from 'commander'
import type { StoredLog } from '../../query/logs/log-files.js'
import { MIN_PREFIX_LENGTH } from '../../query/traces/asked-id.js'
import { type FoundTrace, findTrace } from '../../query/traces/find-trace.js'
import { followLinks, type LinkedTraces, MAX_LINKED, MAX_STEPS } from '../../query/traces/linked-traces.js'
import { buildTraceTrees } from '../../query/traces/trace-tree.js'
import { localDirectory } from '../../telemetry/local-directory.js'
import { terminalOf } from '../terminal/terminal.js'
import { noTraceText } from './no-trace.js'
import { renderTrace } from './render-trace.js'
import { traceJson } from './trace-json.js'

interface TraceOptions {
  dir?: string
  json?: boolean
  color: boolean
  logs: boolean
  followLinks?: boolean
}

const HELP = `
Reads the span and log files that the app writes when no OTLP endpoint is configured.

A request is found by:
  correlation ID    the x-correlation-id of a response; all its traces, also of messages that it sent
  trace ID          one trace
  digest            what Next shows on its error page
  hash of a key     what \`throughline keys\` shows; its first use, then those that repeat it
Of the first two the beginning is enough. A whole ID goes before a beginning, and these two before the others.

With THROUGHLINE_JAEGER_URL=http://localhost:16686 it prints the link to each trace.

Examples:
  $ throughline trace 4bf92f3577b34da6a3ce929d0e0e4736     a correlation ID or a trace ID
  $ throughline trace 4bf92f                               its beginning, if no other ID begins so
  $ throughline trace 2338842346                           the digest on an error page
  $ throughline trace 9c1f4a7be0d2c355 --follow-links      all uses of a key, and what came of them
  $ throughline trace order-7 --dir ../shop/.throughline   files of another app
  $ throughline trace 4bf92f --json | jq '.spans[].name'   for programs

With --follow-links, what its spans link to and what links to it comes after it: the first use of a key, and later
ones; what sent a message, and attempts at it; and so on, up to ${MAX_LINKED} traces and ${MAX_STEPS} steps away.

With --json, one document:
  { "id", "foundBy": "correlation" | "trace" | "digest" | "key", "traceIds": [], "correlationIds": [],
    "spans": [{ "traceId", "spanId", "parentSpanId", "isParentRemote", "name", "kind", "service",
                "startTimeMs", "durationMs", "status", "statusMessage", "attributes": {}, "events": [], "links": [] }],
    "logs":  [{ "timeMs", "level", "message", "service", "traceId", "spanId", "correlationId", "fields": {} }],
    "isTruncated", "unreadableLines" }
and with --follow-links:
    "linked": [{ "traceId", "distance", "spans": [], "logs": [],
                 "via": { "direction": "from" | "to", "traceId", "name",
                          "reason": "key" | "race" | "suspect" | "message" | "attempt" | "other" } }],
    "linkedLeftOut"
  Times are epoch milliseconds. Spans are flat, by start time. "via" is the nearer trace, at the other end of the link.

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
    .option('--follow-links', 'show the traces that links lead to, or come from, too')
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
    process.stderr.write(noTraceText(answer, id, directory, process.env))
    process.exitCode = 1
    return
  }
  const followed = options.followLinks === true ? await followLinks(directory, answer) : undefined
  process.stdout.write(textOf(answer, followed, options))
}

function textOf(answer: FoundTrace, followed: LinkedTraces | undefined, options: TraceOptions): string {
  const shown = <T extends { logs: StoredLog[] }>(trace: T): T =>
    options.logs ? trace : { ...trace, logs: [] }
  const found = shown({
    ...answer,
    isTruncated: answer.isTruncated || followed?.isTruncated === true,
    unreadableLines: answer.unreadableLines + (followed?.unreadableLines ?? 0),
  })
  const linked = followed && { ...followed, linked: followed.linked.map(shown) }
  if (options.json === true) return traceJson(found, linked)
  const trees = buildTraceTrees(found.spans, found.logs)
  return renderTrace(found, trees, terminalOf(process.stdout, process.env, options.color), linked)
}

function wholeArgument(value: string): string {
  if (value.trim() === '') throw new InvalidArgumentError('An ID has at least one character.')
  return value.trim()
}
