/** A span for one statement, in the shape of OpenTelemetry's stable database conventions. */
import { type Attributes, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { countCall, tryGetContext } from '../../context/index.js'
import { recordSeconds } from '../../telemetry/meter.js'
import { ATTRIBUTE, METRIC, SCOPE } from '../../telemetry/names.js'

/** A statement about to be sent. */
export interface Statement {
  /** `db.system.name`: `postgresql`, `mysql`, … */
  system: string
  /** `db.namespace`: the database's name. */
  namespace: string
  /** The statement with placeholders, never with values. */
  text: string
}

/**
 * Runs a statement in a span of its own. Outside a request it runs without one.
 *
 * @param run gets the span, for the SQL comment
 */
export async function runStatement<T>(statement: Statement, run: (span: Span) => Promise<T>): Promise<T> {
  const requestContext = tryGetContext()
  const operation = operationOf(statement.text)
  const attributes: Attributes = {
    [ATTRIBUTE.dbSystem]: statement.system,
    [ATTRIBUTE.dbNamespace]: statement.namespace,
    [ATTRIBUTE.dbOperation]: operation,
  }
  if (requestContext === undefined)
    return run(trace.wrapSpanContext({ traceId: '', spanId: '', traceFlags: 0 }))
  const span = trace.getTracer(SCOPE).startSpan(`${operation} ${statement.namespace}`, {
    kind: SpanKind.CLIENT,
    attributes: { ...attributes, [ATTRIBUTE.dbQueryText]: statement.text },
  })
  const startedAt = performance.now()
  try {
    return await run(span)
  } catch (error) {
    const type = errorTypeOf(error)
    attributes[ATTRIBUTE.errorType] = type
    span.setAttribute(ATTRIBUTE.errorType, type)
    span.setStatus({ code: SpanStatusCode.ERROR, message: type })
    throw error
  } finally {
    const durationMs = performance.now() - startedAt
    countCall(requestContext, 'database', durationMs)
    recordSeconds(METRIC.dbClientOperationDuration, durationMs / 1000, attributes)
    span.end()
  }
}

/** The first word of a statement, in upper case: low cardinality by nature. */
function operationOf(text: string): string {
  return /^\s*([A-Za-z]{1,20})/.exec(text)?.[1]?.toUpperCase() ?? 'QUERY'
}

// A database's message may quote a value; its code (SQLSTATE) does not.
function errorTypeOf(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown }
  return typeof code === 'string' ? code : typeof name === 'string' ? name : typeof error
}
