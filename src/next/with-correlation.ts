/** `withCorrelation` for `proxy.ts` (`middleware.ts` before Next 16). */

import type { NextFetchEvent, NextRequest } from 'next/server.js'
import { NextResponse } from 'next/server.js'
import { DEFAULT_CORRELATION_HEADER, getContext } from '../context/index.js'
import { ensureContext } from './ensure-context.js'

/** A proxy, as Next calls it. What is no response lets the request go on. */
export type Proxy = (request: NextRequest, event: NextFetchEvent) => unknown

/** Options of `withCorrelation`. */
export interface WithCorrelationOptions {
  /** Header to read and to set, lower case. Default `x-correlation-id`. */
  header?: string
}

/**
 * Sets the correlation ID on the request that goes on to the app, and on the response. Needed on platforms
 * without a Node server and on edge; elsewhere the server hook has done it, and this agrees with it.
 *
 * @example
 * // proxy.ts
 * export const proxy = withCorrelation()
 * @example
 * export const proxy = withCorrelation((request) => { if (!isSignedIn(request)) return NextResponse.redirect(…) })
 */
export function withCorrelation(
  handler: Proxy = () => undefined,
  options: WithCorrelationOptions = {},
): Proxy {
  const header = options.header ?? DEFAULT_CORRELATION_HEADER
  return (request, event) =>
    ensureContext(
      async () => (name) => request.headers.get(name),
      async () => {
        const { correlationId } = getContext()
        const given = await handler(request, event)
        const answer = given instanceof Response ? given : NextResponse.next()
        const response = answer.headers.has('x-middleware-next')
          ? goOn(request, answer, header, correlationId)
          : answer
        response.headers.set(header, correlationId)
        return response
      },
    )
}

// NextResponse.next({ request: { headers } }) deletes every request header that it is not given, so all are
// copied. A handler that set request headers itself keeps them.
function goOn(request: NextRequest, answer: Response, header: string, correlationId: string): Response {
  const overridden = answer.headers.get('x-middleware-override-headers')
  if (overridden !== null) {
    answer.headers.set('x-middleware-override-headers', `${overridden},${header}`)
    answer.headers.set(`x-middleware-request-${header}`, correlationId)
    return answer
  }
  const headers = new Headers(request.headers)
  headers.set(header, correlationId)
  const response = NextResponse.next({ request: { headers } })
  answer.headers.forEach((value, name) => {
    if (name !== 'set-cookie') response.headers.set(name, value)
  })
  for (const cookie of answer.headers.getSetCookie()) response.headers.append('set-cookie', cookie)
  return response
}
