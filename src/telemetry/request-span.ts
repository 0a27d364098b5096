/**
 * What every span gets as it starts, and what its request learns from it. Called by the tracer provider
 * decorator (`instrumentation/tracer-provider.ts`) or, in an SDK that a user set up, by the span processor.
 */
import type { Span } from '@opentelemetry/api'
import { tryGetContext } from '../context/index.js'
import { ATTRIBUTE } from './names.js'

/** Stamps the correlation ID on a span that starts, and remembers the request's first span. */
export function adoptSpan(span: Span): void {
  const requestContext = tryGetContext()
  if (requestContext === undefined) return
  span.setAttribute(ATTRIBUTE.correlationId, requestContext.correlationId)
  requestContext.firstSpan ??= span
}
