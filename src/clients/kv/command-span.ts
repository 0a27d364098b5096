/** A span for one KV command or batch, in the shape of OpenTelemetry's stable database conventions. */
import { type Attributes, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { countCall, type RequestContext } from '../../context/index.js'
import { recordSeconds } from '../../telemetry/meter.js'
import { ATTRIBUTE, METRIC, SCOPE } from '../../telemetry/names.js'

/** Where a command goes, as far as the client tells. */
export interface CommandPlace {
  database?: number | undefined
  serverAddress?: string | undefined
  serverPort?: number | undefined
  /** Commands in the batch, when it is one. */
  batchSize?: number | undefined
}

/** A command under way, in its request. */
export interface OpenCommand {
  span: Span
  operation: string
  startedAt: number
  requestContext: RequestContext
}

/** @param operation upper-case name of the command, or of the kind of batch; never its arguments */
export function openCommand(
  requestContext: RequestContext,
  operation: string,
  place: CommandPlace,
): OpenCommand {
  const attributes = attributesOf(place, operation)
  const span = trace.getTracer(SCOPE).startSpan(operation, { kind: SpanKind.CLIENT, attributes })
  return { span, operation, startedAt: performance.now(), requestContext }
}

/** Ends the span, and counts the command for the request and the histogram. */
export function closeCommand({ span, operation, startedAt, requestContext }: OpenCommand): void {
  const durationMs = performance.now() - startedAt
  span.end()
  countCall(requestContext, 'kv', durationMs)
  recordSeconds(METRIC.dbClientOperationDuration, durationMs / 1000, {
    [ATTRIBUTE.dbSystem]: 'redis',
    [ATTRIBUTE.dbOperation]: operation,
  })
}

function attributesOf(place: CommandPlace, operation: string): Attributes {
  const attributes: Attributes = { [ATTRIBUTE.dbSystem]: 'redis', [ATTRIBUTE.dbOperation]: operation }
  if (place.database !== undefined) attributes[ATTRIBUTE.dbNamespace] = String(place.database)
  if (place.serverAddress !== undefined) attributes[ATTRIBUTE.serverAddress] = place.serverAddress
  if (place.serverPort !== undefined) attributes[ATTRIBUTE.serverPort] = place.serverPort
  if (place.batchSize !== undefined) attributes[ATTRIBUTE.dbBatchSize] = place.batchSize
  return attributes
}

// A reply error begins with its code (`WRONGTYPE Operation against …`); its text may quote a key, so only
// the code or the error's class is kept.
export function markFailed(span: Span, error: unknown): void {
  const message = error instanceof Error ? error.message : ''
  const code = /^[A-Z]{2,}(?= )/.exec(message)?.[0]
  const type = code ?? (error as { code?: string }).code ?? (error instanceof Error ? error.name : 'Error')
  span.setAttribute(ATTRIBUTE.errorType, type)
  span.setStatus({ code: SpanStatusCode.ERROR, message: type })
}
