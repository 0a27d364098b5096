/**
 * A trace in a few facts, gathered span by span: spans of one trace stand anywhere in the files, children before
 * parents. Pure; the order in which spans come does not matter.
 */
import { ATTRIBUTE } from '../../telemetry/names.js'
import { asText, definedOf } from '../files/loose-json.js'
import { kept, keptName } from './kept-text.js'
import type { AttributeValue, StoredSpan } from './span-files.js'

/** What a list says of a trace. What is not known is left out. */
export interface TraceSummary {
  traceId: string
  correlationId?: string
  /** Start of the span that started first, epoch milliseconds. */
  startTimeMs: number
  /** From there to the last end. */
  durationMs: number
  /** Name of the first span: the request's, or the one around a worker's attempt. */
  name: string
  method?: string
  route?: string
  status?: number
  action?: string
  /** How the action ended, or what became of the message: `ok`, `redirect`, `handled`. */
  outcome?: string
  /** Topic of the message that was handled. */
  topic?: string
  attempt?: number
  /** Of the first span. */
  service?: string
  /** All that have a span in it; at most ten. */
  services: string[]
  spans: number
  /** Spans that failed. */
  errors: number
  /** Keys that had been used before; at most 100 are counted. */
  hits: number
  /** True when another request missed the same key at the same time. */
  isRace: boolean
  /** Of the key that the first span shows. */
  idempotencyOutcome?: string
  keyHash?: string
  /** False when no span without a parent here is written: the request may still be running, or its file is gone. */
  isComplete: boolean
}

/** A trace while its spans are read. */
export interface TraceFacts {
  traceId: string
  startTimeMs: number
  endTimeMs: number
  spans: number
  errors: number
  isRace: boolean
  /** Undefined until there is one: most traces have none. */
  hitKeys?: Set<string>
  services: string[]
  /** The outermost span. */
  first: SpanFacts
  /** The outermost that tells a route, and an action: the span around a proxy has none. */
  routed?: SpanFacts
  acting?: SpanFacts
  /** The outermost that has a correlation ID: a stranger's instrumentation may give none. */
  correlated?: SpanFacts
}

interface SpanFacts {
  spanId: string
  /** 0 without a parent, 1 with one in another process, 2 with one here. */
  depth: number
  startTimeMs: number
  name: string
  service: string | undefined
  correlationId: string | undefined
  method: string | undefined
  route: string | undefined
  status: number | undefined
  action: string | undefined
  outcome: string | undefined
  topic: string | undefined
  attempt: number | undefined
  idempotencyOutcome: string | undefined
  keyHash: string | undefined
}

const MAX_SERVICES = 10

const MAX_HIT_KEYS = 100

// Names that Next still emits.
const OLD = { httpMethod: 'http.method', httpStatus: 'http.status_code' } as const

/** Adds a span to what is known of its trace. A span that is given twice counts twice. */
export function withSpan(known: TraceFacts | undefined, span: StoredSpan): TraceFacts {
  const told = spanFactsOf(span)
  const facts = known ?? {
    ...{ traceId: kept(span.traceId), startTimeMs: span.startTimeMs, endTimeMs: span.startTimeMs },
    ...{ spans: 0, errors: 0, isRace: false, services: [], first: told },
  }
  facts.startTimeMs = Math.min(facts.startTimeMs, span.startTimeMs)
  facts.endTimeMs = Math.max(facts.endTimeMs, span.startTimeMs + span.durationMs)
  facts.spans += 1
  if (span.status === 'error') facts.errors += 1
  if (span.attributes[ATTRIBUTE.idempotencyRace] === true) facts.isRace = true
  noteHit(facts, span)
  const { service } = told
  if (service !== undefined && facts.services.length < MAX_SERVICES && !facts.services.includes(service))
    facts.services.push(service)
  facts.first = outerOf(facts.first, told)
  if (told.route !== undefined) facts.routed = outerOf(facts.routed, told)
  if (told.action !== undefined) facts.acting = outerOf(facts.acting, told)
  if (told.correlationId !== undefined) facts.correlated = outerOf(facts.correlated, told)
  return facts
}

export function summaryOf(facts: TraceFacts): TraceSummary {
  const { traceId, startTimeMs, spans, errors, isRace, first, routed, acting, correlated } = facts
  const { method, status } = first
  return {
    ...{ traceId, startTimeMs, durationMs: facts.endTimeMs - startTimeMs, name: first.name },
    ...definedOf({
      correlationId: correlated?.correlationId,
      method: method ?? routed?.method,
      route: first.route ?? routed?.route,
      status: status ?? routed?.status,
      action: acting?.action,
      outcome: first.outcome ?? acting?.outcome,
      topic: first.topic,
      attempt: first.attempt,
      service: first.service,
    }),
    services: [...facts.services].sort(),
    ...{ spans, errors, hits: facts.hitKeys?.size ?? 0, isRace },
    ...definedOf({ idempotencyOutcome: first.idempotencyOutcome, keyHash: first.keyHash }),
    isComplete: first.depth < 2,
  }
}

function spanFactsOf(span: StoredSpan): SpanFacts {
  const { attributes, kind } = span
  const id = (name: string) => textOf(attributes[name], kept)
  const text = (name: string) => textOf(attributes[name], keptName)
  const number = (name: string) => numberOf(attributes[name])
  const isServed = kind === 'server' || attributes[ATTRIBUTE.nextSpanType] === 'BaseServer.handleRequest'
  return {
    spanId: kept(span.spanId),
    depth: span.parentSpanId === undefined ? 0 : span.isParentRemote ? 1 : 2,
    startTimeMs: span.startTimeMs,
    name: keptName(span.name),
    service: textOf(span.service, keptName),
    correlationId: id(ATTRIBUTE.correlationId),
    // A call to another server has them, too.
    method: isServed ? (text(ATTRIBUTE.httpMethod) ?? text(OLD.httpMethod)) : undefined,
    status: isServed ? (number(ATTRIBUTE.httpStatus) ?? number(OLD.httpStatus)) : undefined,
    route: isServed ? (text(ATTRIBUTE.nextRoute) ?? text(ATTRIBUTE.httpRoute)) : undefined,
    action: text(ATTRIBUTE.actionName),
    outcome: text(ATTRIBUTE.actionOutcome) ?? text(ATTRIBUTE.outboxOutcome),
    topic: text(ATTRIBUTE.outboxTopic),
    attempt: number(ATTRIBUTE.outboxAttempt),
    idempotencyOutcome: text(ATTRIBUTE.idempotencyOutcome),
    keyHash: id(ATTRIBUTE.idempotencyKeyHash),
  }
}

// Of two that are alike in all, one is taken whatever the order.
function outerOf(a: SpanFacts | undefined, b: SpanFacts): SpanFacts {
  if (a === undefined) return b
  if (a.depth !== b.depth) return a.depth < b.depth ? a : b
  if (a.startTimeMs !== b.startTimeMs) return a.startTimeMs < b.startTimeMs ? a : b
  return a.spanId <= b.spanId ? a : b
}

function noteHit(facts: TraceFacts, { attributes }: StoredSpan): void {
  if (attributes[ATTRIBUTE.idempotencyHit] !== true) return
  facts.hitKeys ??= new Set()
  if (facts.hitKeys.size < MAX_HIT_KEYS)
    facts.hitKeys.add(textOf(attributes[ATTRIBUTE.idempotencyKeyHash], kept) ?? '')
}

function textOf(value: AttributeValue | undefined, keep: (text: string) => string): string | undefined {
  const text = asText(value)
  return text === undefined ? undefined : keep(text)
}

function numberOf(value: AttributeValue | undefined): number | undefined {
  return typeof value === 'number' ? value : undefined
}
