/**
 * `fetch` and undici: the correlation header and `traceparent` on outgoing calls.
 *
 * Added on undici's own channel, beneath Next's patched `fetch`. A header added at the call site would be
 * part of Next's cache key, and every cacheable fetch would miss (next.js #84414).
 */
import { subscribe } from 'node:diagnostics_channel'
import { context, propagation } from '@opentelemetry/api'
import { countCall, type RequestContext, tryGetContext } from '../../context/index.js'

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
  headers?: string | readonly unknown[]
  addHeader(name: string, value: string): unknown
}

/** Subscribes to undici's channels. Call once per process. */
export function traceUndici(options: OutgoingCallOptions): void {
  const open = new WeakMap<UndiciRequest, { startedAt: number; requestContext: RequestContext }>()
  const isListed = compileHosts(options.propagateTo)

  subscribe('undici:request:create', (message) => {
    const { request } = message as { request: UndiciRequest }
    const requestContext = tryGetContext()
    if (requestContext === undefined) return
    open.set(request, { startedAt: performance.now(), requestContext })
    const host = hostOf(request.origin)
    if (host === undefined || !(isLoopback(host) || host === requestContext.host || isListed(host))) return
    addHeader(request, options.correlationHeader, requestContext.correlationId)
    propagation.inject(context.active(), request, { set: addHeader })
  })

  const close = (message: unknown) => {
    const { request } = message as { request: UndiciRequest }
    const call = open.get(request)
    if (call === undefined) return
    open.delete(request)
    countCall(call.requestContext, 'fetch', performance.now() - call.startedAt)
  }
  subscribe('undici:request:trailers', close)
  subscribe('undici:request:error', close)
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

/** `host:port` as a `Host` header has it: without the scheme's default port. */
function hostOf(origin: string | URL | undefined): string | undefined {
  if (origin === undefined) return undefined
  try {
    return new URL(origin).host
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
