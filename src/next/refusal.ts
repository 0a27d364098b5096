/** A use of a key that did not run: how it is told from other errors, and how it is shown. */
import { type Span, SpanStatusCode } from '@opentelemetry/api'
import { isThroughlineError, type ThroughlineError } from '../errors.js'
import { logger } from '../logging/index.js'
import { ATTRIBUTE, LOG_FIELD } from '../telemetry/names.js'

/** True for what `runOnce` throws of its own: `IDEMPOTENCY_*` and `STORE_UNAVAILABLE`. */
export function isRefusal(error: unknown): error is ThroughlineError {
  return (
    isThroughlineError(error) && (error.code.startsWith('IDEMPOTENCY_') || error.code === 'STORE_UNAVAILABLE')
  )
}

/**
 * Says on the span and in a line that the run did not take place, for the caller answers as if all were
 * well. An outage is an error; a repeat that came too early or with another payload is the caller's affair.
 */
export function showRefusal(span: Span, error: ThroughlineError): void {
  span.setAttribute(ATTRIBUTE.errorType, error.code)
  if (error.code === 'STORE_UNAVAILABLE') {
    span.setStatus({ code: SpanStatusCode.ERROR, message: error.message })
    logger.error({ [LOG_FIELD.error]: error }, 'action refused')
  } else logger.warn({ code: error.code }, 'action refused')
}
