/** What leads from one trace to others: links of its spans, and links of other traces' spans to it. Pure. */
import { EVENT } from '../../telemetry/names.js'
import { kept } from './kept-text.js'
import type { SpanLink, StoredSpan } from './span-files.js'

/**
 * What a link stands for: a key that had been used before, one that two requests missed at once, a payload that had
 * just come under another key, a message that was sent, or the attempt before at one.
 */
export type LinkReason = 'key' | 'race' | 'suspect' | 'message' | 'attempt' | 'other'

const REASON_OF_ATTRIBUTE = new Map<string, LinkReason>([
  [EVENT.idempotencyHit, 'key'],
  [EVENT.idempotencyRace, 'race'],
  [EVENT.idempotencySuspect, 'suspect'],
  [EVENT.outboxSent, 'message'],
  [EVENT.outboxPreviousAttempt, 'attempt'],
])

/** Why a trace is shown beside another. */
export interface LinkVia {
  /** `from`: the other trace links to this one. `to`: this one links to the other. */
  direction: 'from' | 'to'
  reason: LinkReason
  /** The other trace, one step nearer to what was asked for. */
  traceId: string
  /** Name of its first span, if that was written. */
  name?: string
}

/** A trace that is one step away. */
export interface LinkedTraceId {
  traceId: string
  via: LinkVia
}

/** A link into one of the traces, as it is kept of very many. */
export interface InboundLink {
  /** The trace that links. */
  traceId: string
  startTimeMs: number
  reason: LinkReason
  /** The trace that it links to. */
  to: string
}

/** The links of a span to one of the traces. */
export function inboundLinks(span: StoredSpan, traceIds: ReadonlySet<string>): InboundLink[] {
  return span.links
    .filter((link) => traceIds.has(link.traceId))
    .map((link) => ({
      ...{ traceId: kept(span.traceId), startTimeMs: span.startTimeMs },
      ...{ reason: reasonOf(link), to: link.traceId },
    }))
}

/**
 * Each trace that is one step away, once: first those that are linked to, of which there are few, then those that
 * link, the oldest first. The traces themselves are among them where they link to each other.
 *
 * @param spans of the traces, by start time
 */
export function neighboursOf(spans: readonly StoredSpan[], inbound: readonly InboundLink[]): LinkedTraceId[] {
  const names = namesOf(spans)
  const neighbours = new Map<string, LinkVia>()
  const note = (traceId: string, via: LinkVia) => {
    const name = names.get(via.traceId)
    if (!neighbours.has(traceId)) neighbours.set(traceId, { ...via, ...(name === undefined ? {} : { name }) })
  }
  for (const { traceId, links } of spans)
    for (const link of links) note(link.traceId, { direction: 'from', reason: reasonOf(link), traceId })
  for (const { traceId, reason, to } of [...inbound].sort((a, b) => a.startTimeMs - b.startTimeMs))
    note(traceId, { direction: 'to', reason, traceId: to })
  return [...neighbours].map(([traceId, via]) => ({ traceId, via }))
}

/** Of each trace its first span's. A child may start at the same time, and be written before. */
function namesOf(spans: readonly StoredSpan[]): Map<string, string> {
  const names = new Map<string, string>()
  const outer = spans.filter(
    ({ parentSpanId, isParentRemote }) => parentSpanId === undefined || isParentRemote,
  )
  for (const { traceId, name } of [...outer, ...spans]) if (!names.has(traceId)) names.set(traceId, name)
  return names
}

function reasonOf({ attributes }: SpanLink): LinkReason {
  const [reason] = [...REASON_OF_ATTRIBUTE].flatMap(([name, each]) =>
    attributes[name] === true ? [each] : [],
  )
  return reason ?? 'other'
}
