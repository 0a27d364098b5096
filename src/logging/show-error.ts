/** An error on the span that it ended, as log lines show it: without what a driver's error quotes. */
import { type Span, SpanStatusCode } from '@opentelemetry/api'
import { ATTRIBUTE } from '../telemetry/names.js'
import { errorFields, type LoggedError } from './error-fields.js'

const NOTHING: LoggedError = { type: 'undefined', message: 'Nothing was thrown.' }

/** Returns what is shown. */
export function showError(span: Span, error: unknown): LoggedError {
  const shown = errorFields(error) ?? NOTHING
  const { type, message, stack } = shown
  span.setAttribute(ATTRIBUTE.errorType, type)
  span.recordException({ name: type, message, ...(stack === undefined ? {} : { stack }) })
  span.setStatus({ code: SpanStatusCode.ERROR, message })
  return shown
}
