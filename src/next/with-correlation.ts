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
        // A copy, because the headers of `Response.redirect()` cannot be changed.
        const response = new Response(answer.body, answer)
        if (GOES_ON.some((name) => response.headers.has(name)))
          sendOn(request, response, header, correlationId)
        response.headers.set(header, correlationId)
        return response
      },
      header,
    )
}

/** What a response bears that lets the request go on into the app, to its own page or to another. */
const GOES_ON = ['x-middleware-next', 'x-middleware-rewrite']

/** The request headers that a response changes: their names, and each value under a prefixed name. */
const OVERRIDDEN = 'x-middleware-override-headers'

// NextResponse.next({ request: { headers } }) deletes every request header that it is not given, so all are
// copied. A handler that set request headers itself keeps them.
function sendOn(request: NextRequest, response: Response, header: string, correlationId: string): void {
  const overridden = response.headers.get(OVERRIDDEN)
  if (overridden !== null) {
    response.headers.set(OVERRIDDEN, `${overridden},${header}`)
    response.headers.set(`x-middleware-request-${header}`, correlationId)
    return
  }
  const headers = new Headers(request.headers)
  headers.set(header, correlationId)
  NextResponse.next({ request: { headers } }).headers.forEach((value, name) => {
    if (name !== 'x-middleware-next') response.headers.set(name, value)
  })
}
