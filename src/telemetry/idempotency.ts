/**
 * How a use of an idempotency key is shown: attributes, event and link on the span that saw it, a copy on
 * the request's first span (so that a trace search finds it there), a counter, and a note for the log line.
 */
import { type Attributes, type Span, type SpanContext, TraceFlags, trace } from '@opentelemetry/api'
import { type RequestContext, tryGetContext } from '../context/index.js'
import { count } from './meter.js'
import { ATTRIBUTE, EVENT, METRIC } from './names.js'

/** What happened to a key. */
export type IdempotencyOutcome = 'won' | 'replay' | 'busy' | 'takeover' | 'mismatch' | 'unknown'

/** What a store and mode promise about the guarded effect. */
export type IdempotencyGuarantee = 'exactly-once-tx' | 'at-most-once' | 'at-least-once'

/** Where a key was used first. */
export interface IdempotencyOrigin {
  /** 32 hex digits. */
  traceId: string
  /** 16 hex digits. */
  spanId: string
  correlationId: string
}

/** An earlier use of the same payload under another key. */
export interface IdempotencySuspect {
  /** 16 hex digits, of the other key. */
  keyHash: string
  origin?: IdempotencyOrigin | undefined
}

/** One use of a key, as telemetry may know it: hashed, without payload or result. */
export interface IdempotencyUse {
  /** 16 hex digits, from `hashKey`. */
  keyHash: string
  outcome: IdempotencyOutcome
  /** True when the key had been used before. */
  isHit: boolean
  /** How often the key has been used again so far. */
  hits?: number
  guarantee?: IdempotencyGuarantee
  /** Age of the first use, in milliseconds. */
  ageMs?: number
  /** Fencing number of the run. */
  fence?: number
  origin?: IdempotencyOrigin
  /** Set on a first use that is suspected to repeat another. */
  suspect?: IdempotencySuspect
  /** Name of the action or of the guarded run, for the counter. */
  action?: string
  /** The store or client that saw it, for the counter: `memory`, `redis`, … */
  store: string
}

/**
 * Shows one use of a key on `span` (the guarded run's, or the KV command's) and on the request's first
 * span. A hit adds an event and a link to the first use. Status stays unset: a replay is not an error.
 */
export function showIdempotencyUse(span: Span | undefined, use: IdempotencyUse): void {
  const attributes = attributesOf(use)
  const requestContext = tryGetContext()
  const firstSpan = requestContext?.firstSpan
  for (const shownOn of new Set([span, firstSpan])) {
    if (shownOn === undefined || !shownOn.isRecording()) continue
    // A request may use several keys: on its first span a hit is not hidden by a later first use.
    if (shownOn !== span && requestContext?.idempotency?.hit === true && !use.isHit) continue
    shownOn.setAttributes(attributes)
    if (use.suspect !== undefined) showSuspect(shownOn, use.suspect)
    if (!use.isHit) continue
    shownOn.addEvent(EVENT.idempotencyHit, attributes)
    const origin = use.origin && spanContextOf(use.origin)
    if (origin !== undefined)
      shownOn.addLink({ context: origin, attributes: { [EVENT.idempotencyHit]: true } })
  }
  if (requestContext !== undefined && (use.isHit || requestContext.idempotency?.hit !== true)) {
    requestContext.idempotency = {
      outcome: use.outcome,
      key_hash: use.keyHash,
      hit: use.isHit,
      ...(use.hits === undefined ? {} : { hits: use.hits }),
      ...(use.suspect === undefined ? {} : { suspect_of: use.suspect.keyHash }),
    }
  }
  countIdempotencyUse(use)
}

/** Whether a use leaves more than a count here: on a span, or on the line of a request. */
export function isUseSeen(span: Span | undefined): boolean {
  return tryGetContext() !== undefined || span?.isRecording() === true
}

/** The counters alone. */
export function countIdempotencyUse({
  action,
  outcome,
  store,
  suspect,
}: Pick<IdempotencyUse, 'action' | 'outcome' | 'store'> & {
  suspect?: IdempotencySuspect | undefined
}): void {
  const name = action ?? tryGetContext()?.action?.name ?? 'unknown'
  if (suspect !== undefined) count(METRIC.idempotencySuspects, { action: name })
  count(METRIC.idempotencyRequests, { action: name, outcome, store })
}

function showSuspect(span: Span, { keyHash, origin }: IdempotencySuspect): void {
  span.setAttributes({
    [ATTRIBUTE.idempotencySuspect]: true,
    [ATTRIBUTE.idempotencySuspectKeyHash]: keyHash,
  })
  span.addEvent(EVENT.idempotencySuspect, { [ATTRIBUTE.idempotencySuspectKeyHash]: keyHash })
  const context = origin && spanContextOf(origin)
  if (context !== undefined) span.addLink({ context, attributes: { [EVENT.idempotencySuspect]: true } })
}

/** The other request of a race, in this process or not. */
export interface OtherRequest {
  correlationId: string
  /** Of its first span, if it has one. */
  spanContext: SpanContext | undefined
}

/**
 * Flags a request that did the same work as another at once: on its first span, with a link to the other's, and
 * for its log line.
 */
export function showRace(request: RequestContext, other: OtherRequest, keyHash: string): void {
  const { firstSpan } = request
  if (firstSpan?.isRecording()) {
    // The hash is on the event alone: the span did not use the key, it found none.
    firstSpan.setAttribute(ATTRIBUTE.idempotencyRace, true)
    firstSpan.addEvent(EVENT.idempotencyRace, { [ATTRIBUTE.idempotencyKeyHash]: keyHash })
    const { spanContext, correlationId } = other
    if (spanContext !== undefined && trace.isSpanContextValid(spanContext))
      firstSpan.addLink({
        context: spanContext,
        attributes: { [EVENT.idempotencyRace]: true, [ATTRIBUTE.correlationId]: correlationId },
      })
  }
  request.idempotency = {
    outcome: 'unknown',
    key_hash: keyHash,
    hit: false,
    ...request.idempotency,
    race: true,
  }
}

/** Where the code running now could later be found: the origin to store with a first use. */
export function currentOrigin(): IdempotencyOrigin | undefined {
  const requestContext = tryGetContext()
  const span = trace.getActiveSpan()?.spanContext()
  const traceId = span?.traceId ?? requestContext?.traceId
  if (traceId === undefined) return undefined
  return {
    traceId,
    spanId: span?.spanId ?? '',
    correlationId: requestContext?.correlationId ?? traceId,
  }
}

function attributesOf(use: IdempotencyUse): Attributes {
  const attributes: Attributes = {
    [ATTRIBUTE.idempotencyHit]: use.isHit,
    [ATTRIBUTE.idempotencyOutcome]: use.outcome,
    [ATTRIBUTE.idempotencyKeyHash]: use.keyHash,
  }
  if (use.hits !== undefined) attributes[ATTRIBUTE.idempotencyHits] = use.hits
  if (use.guarantee !== undefined) attributes[ATTRIBUTE.idempotencyGuarantee] = use.guarantee
  if (use.ageMs !== undefined) attributes[ATTRIBUTE.idempotencyAgeMs] = use.ageMs
  if (use.fence !== undefined) attributes[ATTRIBUTE.idempotencyFence] = use.fence
  if (use.origin !== undefined && use.isHit) {
    attributes[ATTRIBUTE.idempotencyOriginTraceId] = use.origin.traceId
    if (use.origin.spanId !== '') attributes[ATTRIBUTE.idempotencyOriginSpanId] = use.origin.spanId
    attributes[ATTRIBUTE.idempotencyOriginCorrelationId] = use.origin.correlationId
  }
  return attributes
}

// A stored origin may have been written by other code: a link is made only from well-formed IDs.
function spanContextOf(origin: IdempotencyOrigin): SpanContext | undefined {
  const spanContext = {
    traceId: origin.traceId,
    spanId: origin.spanId,
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
  }
  return trace.isSpanContextValid(spanContext) ? spanContext : undefined
}
