/**
 * What every span gets as it starts, and what its request learns from it. Called by the tracer provider
 * decorator (`instrumentation/tracer-provider.ts`) or, in an SDK that a user set up, by the span processor.
 */
import type { Span } from '@opentelemetry/api'
import { type RequestContext, tryGetContext } from '../context/index.js'
import { ATTRIBUTE } from './names.js'
import { alignStart } from './span-start.js'

/** Stamps the correlation ID on a span that starts, sets its start right, and remembers the request's first span. */
export function adoptSpan(span: Span): void {
  const requestContext = tryGetContext()
  if (requestContext === undefined) return
  alignStart(span, requestContext)
  span.setAttribute(ATTRIBUTE.correlationId, requestContext.correlationId)
  if (requestContext.firstSpan !== undefined) return
  requestContext.firstSpan = span
  if (requestContext.isResponseOpen === true) holdOpen(span, requestContext)
}

// Next ends the first span of a proxied request when the proxy is done, before the page renders. A flag set
// by the page would come too late, and a child would outlast its parent. So it stays open with the response.
function holdOpen(span: Span, requestContext: RequestContext): void {
  const end = span.end.bind(span)
  span.end = (endTime) => {
    if (requestContext.isResponseOpen !== true) return end(endTime)
    requestContext.endFirstSpan = end
  }
}

/**
 * The route as Next names it: what stands on its request span at the end, before that what its steps said. The API
 * has no way to read a span, but every SDK's recording span carries its attributes.
 */
export function routeOf({ route, routeSpan }: RequestContext): string | undefined {
  const { attributes } = (routeSpan ?? {}) as { attributes?: Record<string, unknown> }
  const final = attributes?.[ATTRIBUTE.nextRoute] ?? attributes?.[ATTRIBUTE.httpRoute]
  return typeof final === 'string' ? final : route
}
