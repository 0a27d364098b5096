import type { FoundTrace } from '../../query/traces/find-trace.js'
import type { LinkedTraces } from '../../query/traces/linked-traces.js'
import { printableDocument } from '../terminal/printable.js'

/**
 * A found trace for programs: one JSON document and a line end. Spans are flat, by start time, and point to
 * their parents by `parentSpanId`; times are epoch milliseconds. Parses to what was written; only its
 * spelling keeps control characters from a terminal.
 */
export function traceJson(found: FoundTrace, followed?: LinkedTraces): string {
  const { id, foundBy, traceIds, correlationIds, spans, logs, isTruncated, unreadableLines } = found
  return printableDocument({
    ...{ id, foundBy, traceIds, correlationIds, spans, logs },
    ...(followed && { linked: followed.linked, linkedLeftOut: followed.leftOut }),
    ...{ isTruncated, unreadableLines },
  })
}
