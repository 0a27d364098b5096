/**
 * `fetch` and undici: a span for each outgoing call, unless Next made one, and the correlation header and
 * `traceparent` on those that may carry them.
 *
 * Added on undici's own channel, beneath Next's patched `fetch`. A header added at the call site would be
 * part of Next's cache key, and every cacheable fetch would miss (next.js #84414).
 */
import { subscribe } from 'node:diagnostics_channel'
import {
  type Attributes,
  context,
  createContextKey,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import { countCall, type RequestContext, tryGetContext } from '../../context/index.js'
import { recordSeconds } from '../../telemetry/meter.js'
import { ATTRIBUTE, METRIC, SCOPE } from '../../telemetry/names.js'
import { errorTypeOf } from '../client-span.js'

/** Options of `traceUndici`. */
export interface OutgoingCallOptions {
  /** Name of the header that carries the ID. */
  correlationHeader: string
  /**
   * Hosts, beside loopback and the request's own, that get the headers: `api.example.com`,
   * `*.example.com`, with a port where it matters, or a regular expression on `host:port`.
   */
  propagateTo: readonly (string | RegExp)[]
}

/** The part of undici's `Request` that is used; `headers` is a list or a string, by version. */
interface UndiciRequest {
  origin?: string | URL
  /** With the query. */
  path?: string
  method?: string
  /** The protocol that is asked for instead of HTTP. */
  upgrade?: unknown
  headers?: string | readonly unknown[]
  addHeader(name: string, value: string): unknown
}

interface OpenRequest {
  startedAt: number
  requestContext: RequestContext
  /** Absent when Next shows the call. */
  span: Span | undefined
  /** For the histogram. */
  attributes: Attributes
}

/** Set in the context where nothing is to be traced: an exporter's own calls (`@opentelemetry/core`). */
const SUPPRESS_TRACING = createContextKey('OpenTelemetry SDK Context Key SUPPRESS_TRACING')

/** The span that Next makes around its patched `fetch`. */
const NEXT_FETCH = 'AppRender.fetch'

/** Subscribes to undici's channels. Call once per process. */
export function traceUndici(options: OutgoingCallOptions): void {
  const open = new WeakMap<UndiciRequest, OpenRequest>()
  const isListed = compileHosts(options.propagateTo)

  subscribe('undici:request:create', (message) => {
    const { request } = message as { request: UndiciRequest }
    const requestContext = tryGetContext()
    if (requestContext === undefined || context.active().getValue(SUPPRESS_TRACING) === true) return
    const url = urlOf(request)
    const attributes = attributesOf(request, url)
    // Of a call that becomes another protocol, such as a WebSocket, no end is announced.
    const isTaken = isShownByNext() || Boolean(request.upgrade) || request.method === 'CONNECT'
    const span = isTaken ? undefined : startSpan(attributes, url)
    open.set(request, { startedAt: performance.now(), requestContext, span, attributes })
    const host = url?.host
    if (host === undefined || !(isLoopback(host) || host === requestContext.host || isListed(host))) return
    addHeader(request, options.correlationHeader, requestContext.correlationId)
    const active = context.active()
    propagation.inject(span === undefined ? active : trace.setSpan(active, span), request, { set: addHeader })
  })

  subscribe('undici:request:headers', (message) => {
    const { request, response } = message as { request: UndiciRequest; response: { statusCode: number } }
    const call = open.get(request)
    if (call === undefined) return
    call.attributes[ATTRIBUTE.httpStatus] = response.statusCode
    call.span?.setAttribute(ATTRIBUTE.httpStatus, response.statusCode)
    if (response.statusCode >= 400) fail(call, String(response.statusCode))
  })
  subscribe('undici:request:trailers', (message) => {
    close((message as { request: UndiciRequest }).request)
  })
  subscribe('undici:request:error', (message) => {
    const { request, error } = message as { request: UndiciRequest; error: unknown }
    const call = open.get(request)
    // Who has the response, and gives up the rest of its body, had what was wanted.
    if (call !== undefined && !(isAnswered(call) && isAbort(error))) fail(call, errorTypeOf(error))
    close(request)
  })

  function close(request: UndiciRequest): void {
    const call = open.get(request)
    if (call === undefined) return
    open.delete(request)
    const durationMs = performance.now() - call.startedAt
    call.span?.end()
    countCall(call.requestContext, 'fetch', durationMs)
    recordSeconds(METRIC.httpClientRequestDuration, durationMs / 1000, call.attributes)
  }
}

function isShownByNext(): boolean {
  const { attributes } = (trace.getActiveSpan() ?? {}) as { attributes?: Record<string, unknown> }
  return attributes?.[ATTRIBUTE.nextSpanType] === NEXT_FETCH
}

// The query and the credentials are the caller's business: neither is shown.
function startSpan(attributes: Attributes, url: URL | undefined): Span {
  return trace.getTracer(SCOPE).startSpan(String(attributes[ATTRIBUTE.httpMethod]), {
    kind: SpanKind.CLIENT,
    attributes: {
      ...attributes,
      ...(url === undefined ? {} : { [ATTRIBUTE.urlFull]: `${url.origin}${url.pathname}` }),
    },
  })
}

function attributesOf({ method = 'GET' }: UndiciRequest, url: URL | undefined): Attributes {
  const attributes: Attributes = { [ATTRIBUTE.httpMethod]: KNOWN_METHODS.has(method) ? method : '_OTHER' }
  if (url === undefined) return attributes
  attributes[ATTRIBUTE.serverAddress] = url.hostname
  attributes[ATTRIBUTE.serverPort] =
    url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port)
  return attributes
}

const KNOWN_METHODS = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
])

function isAnswered({ attributes }: OpenRequest): boolean {
  return attributes[ATTRIBUTE.httpStatus] !== undefined
}

function isAbort(error: unknown): boolean {
  return (error as { name?: unknown } | undefined)?.name === 'AbortError'
}

function fail({ span, attributes }: OpenRequest, type: string): void {
  attributes[ATTRIBUTE.errorType] = type
  span?.setAttribute(ATTRIBUTE.errorType, type)
  span?.setStatus({ code: SpanStatusCode.ERROR, message: type })
}

// A header the app set itself wins.
function addHeader(request: UndiciRequest, name: string, value: string): void {
  if (!hasHeader(request.headers, name)) request.addHeader(name, value)
}

function hasHeader(headers: UndiciRequest['headers'], name: string): boolean {
  if (headers === undefined) return false
  if (typeof headers === 'string') return `\n${headers.toLowerCase()}`.includes(`\n${name}:`)
  return headers.some((entry, index) => index % 2 === 0 && String(entry).toLowerCase() === name)
}

function urlOf({ origin, path }: UndiciRequest): URL | undefined {
  if (origin === undefined) return undefined
  try {
    return new URL(path ?? '/', origin)
  } catch {
    return undefined
  }
}

function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '')
  return (
    name === 'localhost' || name.endsWith('.localhost') || name === '[::1]' || /^127(\.\d+){3}$/.test(name)
  )
}

function compileHosts(hosts: OutgoingCallOptions['propagateTo']): (host: string) => boolean {
  const tests = hosts.map((host) => {
    if (host instanceof RegExp) {
      // With `g` or `y` an expression goes on where its last match ended.
      const stateless = new RegExp(host.source, host.flags.replace(/[gy]/g, ''))
      return (value: string) => stateless.test(value)
    }
    const bare = host.startsWith('*.') ? host.slice(1) : host
    return (value: string) => {
      const candidates = [value, value.replace(/:\d+$/, '')]
      return candidates.some((candidate) => candidate === host || (bare !== host && candidate.endsWith(bare)))
    }
  })
  return (value) => tests.some((test) => test(value))
}
