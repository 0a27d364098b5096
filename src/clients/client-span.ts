/**
 * One call of a client, from its start to its end: a span in the shape of OpenTelemetry's stable conventions, the
 * histogram, and the tally on the request's line. Every client in `database/` and `kv/` is shown through it.
 */
import {
  type Attributes,
  type Span,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import { type CallKind, countCall, type RequestContext } from '../context/index.js'
import { recordSeconds } from '../telemetry/meter.js'
import { ATTRIBUTE, METRIC, SCOPE } from '../telemetry/names.js'

/** Where a call goes, as far as the client tells. */
export interface ClientTarget {
  /** `db.system.name`: `postgresql`, `mysql`, `sqlite`, `redis`, … */
  system: string
  /** `db.namespace`: the database's name, or its number. */
  namespace?: string | undefined
  serverAddress?: string | undefined
  serverPort?: number | undefined
}

/** A call under way, in its request. */
export interface OpenCall {
  readonly span: Span
  readonly requestContext: RequestContext
  readonly kind: CallKind
  readonly target: ClientTarget
  readonly operation: string
  /** By `performance.now()`. */
  readonly startedAt: number
  errorType?: string
  isClosed?: true
}

/** What is known of a call when it starts. */
export interface CallStart {
  kind: CallKind
  /** Low cardinality: the operation, and what it is done to. */
  name: string
  /** `db.operation.name`: a word, never an argument. */
  operation: string
  target: ClientTarget
  /** Beside those of the target and the operation. */
  attributes?: Attributes | undefined
  /** By `performance.now()`, when it began earlier. Default now. */
  startedAt?: number
}

/** Starts the span of a call, under the active one. */
export function openCall(requestContext: RequestContext, start: CallStart): OpenCall {
  const { kind, name, operation, target } = start
  const attributes: Attributes = {
    [ATTRIBUTE.dbSystem]: target.system,
    [ATTRIBUTE.dbOperation]: operation,
  }
  if (target.namespace !== undefined) attributes[ATTRIBUTE.dbNamespace] = target.namespace
  if (target.serverAddress !== undefined) attributes[ATTRIBUTE.serverAddress] = target.serverAddress
  if (target.serverPort !== undefined) attributes[ATTRIBUTE.serverPort] = target.serverPort
  if (start.attributes !== undefined) Object.assign(attributes, start.attributes)
  const options: SpanOptions = { kind: SpanKind.CLIENT, attributes }
  if (start.startedAt !== undefined) options.startTime = start.startedAt
  const span = trace.getTracer(SCOPE).startSpan(name, options)
  return { span, requestContext, kind, target, operation, startedAt: start.startedAt ?? performance.now() }
}

/**
 * Notes that the call failed. Of the error only its code is kept (SQLSTATE, `ECONNREFUSED`, `WRONGTYPE`), else its
 * class: its text may quote a value.
 */
export function failCall(call: OpenCall, error: unknown): void {
  call.errorType = errorTypeOf(error)
  call.span.setAttribute(ATTRIBUTE.errorType, call.errorType)
  call.span.setStatus({ code: SpanStatusCode.ERROR, message: call.errorType })
}

/** Ends the span, and counts the call for its request and the histogram. A second time it does nothing. */
export function closeCall(call: OpenCall): void {
  if (call.isClosed) return
  call.isClosed = true
  const durationMs = performance.now() - call.startedAt
  call.span.end()
  countCall(call.requestContext, call.kind, durationMs)
  const attributes: Attributes = {
    [ATTRIBUTE.dbSystem]: call.target.system,
    [ATTRIBUTE.dbOperation]: call.operation,
  }
  if (call.errorType !== undefined) attributes[ATTRIBUTE.errorType] = call.errorType
  recordSeconds(METRIC.dbClientOperationDuration, durationMs / 1000, attributes)
}

/** Ends a call with what came of it: an error, or undefined or null as callbacks have it. A second time it does nothing. */
export function settleCall(call: OpenCall, error?: unknown): void {
  if (error !== undefined && error !== null && !call.isClosed) failCall(call, error)
  closeCall(call)
}

/**
 * The code of an error, else its class. A reply error of Redis has no code: its text begins with one (`WRONGTYPE
 * Operation against …`). Never its text: it may quote a value.
 */
export function errorTypeOf(error: unknown): string {
  const { code, name, message } = (error ?? {}) as { code?: unknown; name?: unknown; message?: unknown }
  if (typeof code === 'string' && /^[\w.-]{1,64}$/.test(code)) return code
  const replyCode = typeof message === 'string' ? /^[A-Z]{2,32}(?= )/.exec(message)?.[0] : undefined
  if (replyCode !== undefined) return replyCode
  return typeof name === 'string' && /^[\w.-]{1,64}$/.test(name) ? name : typeof error
}
