/** What `throughline trace` says when there is no one answer. */
import { MIN_PREFIX_LENGTH } from '../../query/traces/asked-id.js'
import type { NotFound } from '../../query/traces/find-trace.js'
import { jaegerUrlOf, traceUrl } from '../terminal/jaeger-link.js'
import { printable } from '../terminal/printable.js'

export function noTraceText(
  answer: NotFound,
  id: string,
  directory: string,
  env: Record<string, string | undefined>,
): string {
  const asked = printable(id)
  if (answer.kind === 'ambiguous') {
    const candidates = answer.candidates.map((candidate) => `  ${printable(candidate)}\n`).join('')
    return `throughline: several IDs begin with "${asked}". Give more of it:\n${candidates}`
  }
  const torn = answer.unreadableLines > 0 ? ` ${answer.unreadableLines} lines with it could not be read.` : ''
  const url = traceUrl(id.toLowerCase(), jaegerUrlOf(env))
  return [
    `throughline: nothing found for "${asked}".`,
    `  Looked for: a correlation ID or trace ID that is this, or (from ${MIN_PREFIX_LENGTH} characters) begins with it;`,
    '              an error digest or the hash of an idempotency key that is this.',
    ...(url === undefined ? [] : [`  In Jaeger:  ${url}, if spans are sent there.`]),
    `  Looked in:  ${printable(directory)}: ${answer.spanFiles} span files, ${answer.logFiles} log files.${torn}`,
    '  Check that: the ID is complete;',
    '              --dir or THROUGHLINE_DIR names the directory the app writes to;',
    '              the app has instrumentation.ts, and no OTLP endpoint (spans go there instead of into files);',
    '              that file exports onRequestError, which logs digests;',
    '              the request is a few seconds old, for spans are written in batches.',
    '',
  ].join('\n')
}
