/** What a reader wants to know of a span beside its name. Pure; nothing here is safe to print yet. */
import type { AttributeValue, StoredSpan } from '../../query/traces/span-files.js'
import { ATTRIBUTE, EVENT } from '../../telemetry/names.js'

// Names that other instrumentations still use, or that we only read.
const READ = {
  dbSystemOld: 'db.system',
  dbStatementOld: 'db.statement',
  httpStatus: 'http.response.status_code',
  httpStatusOld: 'http.status_code',
  exceptionType: 'exception.type',
  exceptionMessage: 'exception.message',
} as const

/** A repeated idempotency key. */
export interface KeyHit {
  keyHash: string
  outcome: string
  hits?: number
  /** Age of the first use, in milliseconds. */
  ageMs?: number
  originTraceId?: string
}

/** Parts of a short description: `postgresql`, `INSERT INTO orders …`. */
export function spanHints(span: StoredSpan): string[] {
  const { attributes } = span
  const text = (name: string) => textOf(attributes[name])
  const hints = [
    attemptHint(attributes[ATTRIBUTE.outboxAttempt]),
    ...databaseHints(span),
    urlHint(text(ATTRIBUTE.urlFull), span.name),
    text(ATTRIBUTE.messagingSystem),
    unlessNamed(text(ATTRIBUTE.messagingDestination), span.name),
    actionHint(text(ATTRIBUTE.actionName), text(ATTRIBUTE.actionFile), span.name),
    outcomeHint(text(ATTRIBUTE.actionOutcome)),
    text(READ.httpStatus) ?? text(READ.httpStatusOld),
    attributes[ATTRIBUTE.idempotencyHit] === true ? undefined : keyHint(text(ATTRIBUTE.idempotencyOutcome)),
  ]
  return hints.filter((hint) => hint !== undefined)
}

/** The repeated key a span saw, if it saw one. */
export function keyHitOf(span: StoredSpan): KeyHit | undefined {
  const { attributes } = span
  if (attributes[ATTRIBUTE.idempotencyHit] !== true) return undefined
  const hits = attributes[ATTRIBUTE.idempotencyHits]
  const ageMs = attributes[ATTRIBUTE.idempotencyAgeMs]
  const link = span.links.find((candidate) => candidate.attributes[ATTRIBUTE.idempotencyHit] === true)
  const originTraceId = textOf(attributes[ATTRIBUTE.idempotencyOriginTraceId]) ?? link?.traceId
  return {
    keyHash: textOf(attributes[ATTRIBUTE.idempotencyKeyHash]) ?? '',
    outcome: textOf(attributes[ATTRIBUTE.idempotencyOutcome]) ?? '',
    ...(typeof hits === 'number' ? { hits } : {}),
    ...(typeof ageMs === 'number' ? { ageMs } : {}),
    ...(originTraceId === undefined ? {} : { originTraceId }),
  }
}

/** The trace of a request that missed the same key at the same time, or an empty text; undefined without a race. */
export function raceOf(span: StoredSpan): string | undefined {
  if (span.attributes[ATTRIBUTE.idempotencyRace] !== true) return undefined
  return span.links.find((link) => link.attributes[ATTRIBUTE.idempotencyRace] === true)?.traceId ?? ''
}

/** Why a span failed, or undefined when it did not. */
export function errorOf(span: StoredSpan): string | undefined {
  if (span.status !== 'error') return undefined
  const exception = span.events.find((event) => event.name === 'exception')?.attributes
  const type = textOf(exception?.[READ.exceptionType]) ?? textOf(span.attributes[ATTRIBUTE.errorType])
  const message = span.statusMessage ?? textOf(exception?.[READ.exceptionMessage])
  const parts = [...new Set([type, message])].filter((part) => part !== undefined)
  return parts.join(': ') || 'failed'
}

/** Where a message's way goes back to: what sent it, and the attempt before. */
export function cameFrom(span: StoredSpan): { what: string; traceId: string }[] {
  return span.links.flatMap(({ traceId, attributes }) => {
    if (attributes[EVENT.outboxSent] === true) return [{ what: 'sent in', traceId }]
    return attributes[EVENT.outboxPreviousAttempt] === true ? [{ what: 'after the attempt in', traceId }] : []
  })
}

function attemptHint(attempt: AttributeValue | undefined): string | undefined {
  return typeof attempt === 'number' && attempt > 1 ? `attempt ${attempt}` : undefined
}

// Without its query: a stranger's, and long.
function urlHint(url: string | undefined, name: string): string | undefined {
  if (url === undefined || !URL.canParse(url)) return undefined
  const { host, pathname } = new URL(url)
  return unlessNamed(`${host}${pathname}`, name)
}

function unlessNamed(text: string | undefined, name: string): string | undefined {
  return text === undefined || name.includes(text) ? undefined : text
}

function databaseHints({ name, attributes }: StoredSpan): (string | undefined)[] {
  const system = textOf(attributes[ATTRIBUTE.dbSystem]) ?? textOf(attributes[READ.dbSystemOld])
  if (system === undefined) return []
  const query = textOf(attributes[ATTRIBUTE.dbQueryText]) ?? textOf(attributes[READ.dbStatementOld])
  const operation = textOf(attributes[ATTRIBUTE.dbOperation])
  return [system, withoutPrefix(query ?? operation, name)]
}

// `GET` beside `GET cart:7` says it twice.
function withoutPrefix(text: string | undefined, name: string): string | undefined {
  if (text === undefined || !text.toLowerCase().startsWith(name.toLowerCase())) return text
  return text.slice(name.length).trim() || undefined
}

function actionHint(
  name: string | undefined,
  file: string | undefined,
  spanName: string,
): string | undefined {
  const hint = `action ${name}`
  if (name === undefined || name === spanName || hint === spanName) return file
  return file === undefined ? hint : `${hint} (${file})`
}

function outcomeHint(outcome: string | undefined): string | undefined {
  return outcome === 'ok' ? undefined : outcome
}

function keyHint(outcome: string | undefined): string | undefined {
  return outcome === undefined ? undefined : `key ${outcome}`
}

function textOf(value: AttributeValue | undefined): string | undefined {
  if (typeof value === 'string') return value || undefined
  return typeof value === 'number' ? String(value) : undefined
}
