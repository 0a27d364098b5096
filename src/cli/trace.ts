/** `throughline trace <id>`. */
import { Command, InvalidArgumentError } from 'commander'
import { type FoundTrace, findTrace, MIN_PREFIX_LENGTH, type NotFound } from '../query/find-trace.js'
import { buildTraceTrees } from '../query/trace-tree.js'
import { localDirectory } from '../telemetry/local-directory.js'
import { printable } from './printable.js'
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

Examples:
  $ throughline trace 4bf92f3577b34da6a3ce929d0e0e4736     the x-correlation-id of a response, or a trace ID
  $ throughline trace 4bf92f                               its beginning, if no other ID begins so
  $ throughline trace order-7 --dir ../shop/.throughline   files of another app
  $ throughline trace 4bf92f --json | jq '.spans[].name'   for programs

With --json, one document:
  { "id", "traceIds": [], "correlationIds": [],
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
      `correlation ID or trace ID, or its first ${MIN_PREFIX_LENGTH} or more characters`,
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
    process.stderr.write(notFoundText(answer, id, directory))
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

function notFoundText(answer: NotFound, id: string, directory: string): string {
  const asked = printable(id)
  if (answer.kind === 'ambiguous') {
    const candidates = answer.candidates.map((candidate) => `  ${printable(candidate)}\n`).join('')
    return `throughline: several IDs begin with "${asked}". Give more of it:\n${candidates}`
  }
  const torn = answer.unreadableLines > 0 ? ` ${answer.unreadableLines} lines with it could not be read.` : ''
  return [
    `throughline: nothing found for "${asked}".`,
    `  Looked for: a correlation ID or trace ID that is this, or (from ${MIN_PREFIX_LENGTH} characters) begins with it.`,
    `  Looked in:  ${printable(directory)}: ${answer.spanFiles} span files, ${answer.logFiles} log files.${torn}`,
    '  Check that: the ID is complete;',
    '              --dir or THROUGHLINE_DIR names the directory the app writes to;',
    '              the app has instrumentation.ts, and no OTLP endpoint (spans go there instead of into files);',
    '              the request is a few seconds old, for spans are written in batches.',
    '',
  ].join('\n')
}

function wholeArgument(value: string): string {
  if (value.trim() === '') throw new InvalidArgumentError('An ID has at least one character.')
  return value.trim()
}
