/**
 * Opens the request context of every HTTP request this process serves: `next start`, `next dev`,
 * standalone and custom servers alike.
 *
 * Next has no hook around a whole request. `http.Server` emits `request` for each one before Next sees it,
 * so running that emit inside the AsyncLocalStorage covers proxy, render, action, route handler and after().
 */
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { Server as HttpsServer } from 'node:https'
import {
  closeContext,
  createContext,
  processWide,
  type RequestContext,
  resolveCorrelation,
  runInContext,
} from '../src/context/index.js'
import { logRequestCompleted } from '../src/logging/request-line.js'
import { count } from '../src/telemetry/meter.js'
import { ATTRIBUTE, METRIC } from '../src/telemetry/names.js'
import { routeOf } from '../src/telemetry/request-span.js'
import type { Settings } from './options.js'
import { nameServerAction } from './server-action.js'

/** What the hook needs to know. */
type HookSettings = Pick<Settings, 'correlationHeaders' | 'requestLog'>

/** Next's own files: a CDN keeps the headers of a cached file, so these get no ID and no line. */
const ASSET_PATH = /^(?:\/[^?]*)?\/(?:_next\/(?:static|image)(?:[/?]|$)|favicon\.ico(?:\?|$))/

/** A server may hand its request on to another server's `emit`: it stays one request. */
const ENTERED = Symbol('throughline.entered')
type EnteredRequest = IncomingMessage & { [ENTERED]?: true }

/** Wraps `emit` of Node's HTTP and HTTPS servers, once per process. */
export function hookHttpServer(settings: HookSettings): void {
  processWide('instrumentation.http-server', () => {
    for (const { prototype } of [HttpServer, HttpsServer]) wrapEmit(prototype, settings)
    return true
  })
}

function wrapEmit(prototype: HttpServer | HttpsServer, settings: HookSettings): void {
  const emit = prototype.emit as (this: unknown, event: string, ...args: unknown[]) => boolean
  prototype.emit = function (this: unknown, event: string, ...args: unknown[]): boolean {
    if (event !== 'request') return emit.call(this, event, ...args)
    const [request, response] = args as [EnteredRequest, ServerResponse]
    if (request[ENTERED] || ASSET_PATH.test(request.url ?? '')) return emit.call(this, event, ...args)
    request[ENTERED] = true
    const requestContext = openContext(request, response, settings)
    return runInContext(requestContext, () => emit.call(this, event, ...args))
  } as typeof prototype.emit
}

function openContext(
  request: IncomingMessage,
  response: ServerResponse,
  settings: HookSettings,
): RequestContext {
  const startedAt = performance.now()
  const correlation = resolveCorrelation((name) => request.headers[name], settings.correlationHeaders)
  if (correlation.isHeaderRefused) count(METRIC.correlationRefused)
  const requestContext = createContext(correlation, {
    method: request.method ?? 'GET',
    path: pathOf(request.url),
    ...(request.headers.host === undefined ? {} : { host: request.headers.host }),
  })
  requestContext.isResponseOpen = true
  // What runs outside this process's globals, as edge middleware in its sandbox, reads the ID from the request.
  request.headers[settings.correlationHeaders[0]] = requestContext.correlationId
  response.setHeader(settings.correlationHeaders[0], requestContext.correlationId)
  nameServerAction(request, response, requestContext)
  response.once('close', () => {
    const durationMs = performance.now() - startedAt
    // Next names the route and ends its spans in the promise that the closed response settles.
    setImmediate(() =>
      runInContext(requestContext, () => finish(requestContext, response, durationMs, settings)),
    )
  })
  return requestContext
}

function finish(
  requestContext: RequestContext,
  response: ServerResponse,
  durationMs: number,
  settings: HookSettings,
): void {
  const { firstSpan, routeSpan, method } = requestContext
  requestContext.isResponseOpen = false
  closeContext(requestContext)
  requestContext.route = routeOf(requestContext)
  const { route } = requestContext
  if (firstSpan !== routeSpan && route !== undefined) {
    // Next names the first span of a proxied request after the method alone.
    firstSpan?.setAttribute(ATTRIBUTE.httpRoute, route)
    firstSpan?.updateName(`${method} ${route}`)
  }
  if (settings.requestLog) {
    logRequestCompleted(requestContext, {
      status: response.statusCode,
      durationMs,
      isAborted: !response.writableFinished,
    })
  }
  requestContext.endFirstSpan?.()
}

function pathOf(url: string | undefined): string {
  const [path] = (url ?? '/').split('?', 1)
  return path ?? '/'
}
