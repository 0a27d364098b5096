import { channel } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { context, createContextKey, trace } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { traceUndici } from '../../src/clients/http/undici.ts'
import { createContext, type RequestContext, runInContext } from '../../src/context/index.ts'
import { freePort } from '../support/free-port.ts'

const exporter = new tracing.InMemorySpanExporter()
// Registered for its context manager and for the W3C propagator, too.
new node.NodeTracerProvider({ spanProcessors: [new tracing.SimpleSpanProcessor(exporter)] }).register()
const tracer = trace.getTracer('test')

// Once per process, as `register()` does it: the channels have no other end.
traceUndici({
  correlationHeader: 'x-correlation-id',
  propagateTo: [
    'api.example.com',
    '*.example.org',
    'ported.example.net:8443',
    '*.ported.example.net:8443',
    /^shard-\d+\.example\.net:\d+$/,
    /flagged\.example/g,
  ],
})

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'

/** What a call bears. */
const BOTH = { 'x-correlation-id': 'order-7', traceparent: expect.stringMatching(/^00-[0-9a-f]{32}-/) }

/** Answers with the headers it got. `/redirect` leads to the same server by a name that is not loopback. */
let server: Server
let port: number

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === '/redirect') response.writeHead(307, { location: elsewhere() })
    if (request.url === '/missing') response.writeHead(404)
    if (request.url === '/slow') return
    if (request.url === '/endless') return void response.write('more to come')
    response.end(JSON.stringify(request.headers))
  }).listen(0, '0.0.0.0')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})

afterAll(async () => {
  server.close()
  server.closeAllConnections()
  await once(server, 'close')
})

const loopback = () => `http://127.0.0.1:${port}/`
/** Reaches the server too, but as neither loopback nor, unless the request says so, its own host. */
const elsewhere = () => `http://0.0.0.0:${port}/`

describe("Node's fetch, in a request", () => {
  it('bears the ID, and the traceparent of a span of its own under the active one, to loopback', async () => {
    const headers = await asRequest(() => headersReceived(loopback()))
    const [call, request] = exporter.getFinishedSpans()
    expect(request?.name).toBe('request')
    expect(call?.parentSpanContext?.spanId).toBe(request?.spanContext().spanId)
    const { traceId, spanId } = call?.spanContext() ?? {}
    expect(headers['x-correlation-id']).toBe('order-7')
    expect(headers.traceparent).toBe(`00-${traceId}-${spanId}-01`)
  })

  it('is shown without its query and its credentials', async () => {
    await asRequest(async () =>
      (await fetch(`${loopback()}items?token=secret#part`, { method: 'POST' })).text(),
    )
    const [call] = exporter.getFinishedSpans()
    expect(call?.name).toBe('POST')
    expect(call?.attributes).toEqual({
      'http.request.method': 'POST',
      'http.response.status_code': 200,
      'server.address': '127.0.0.1',
      'server.port': port,
      'url.full': `${loopback()}items`,
    })
  })

  it('is shown as failed with its status, or with the code of what the network said', async () => {
    const unused = await freePort()
    await asRequest(async () => {
      await (await fetch(`${loopback()}missing`)).text()
      await fetch(`http://127.0.0.1:${unused}/`).catch(() => {})
    })
    expect(exporter.getFinishedSpans().map((span) => span.attributes['error.type'])).toEqual([
      '404',
      'ECONNREFUSED',
      undefined,
    ])
  })

  it('is named after its class when it was given up, and is no failure when it was answered before', async () => {
    await asRequest(async () => {
      await fetch(`${loopback()}slow`, { signal: AbortSignal.timeout(50) }).catch(() => {})
      await fetch(`${loopback()}slow`, { signal: AbortSignal.abort({ code: 'alice@example.com' }) }).catch(
        () => {},
      )
      const answered = await fetch(`${loopback()}endless`)
      await answered.body?.cancel()
    })
    const types = exporter.getFinishedSpans().map((span) => span.attributes['error.type'])
    expect(types).toEqual(['TimeoutError', undefined, undefined])
  })

  it('has no second span where Next made one, and bears that one', async () => {
    const headers = await asRequest(() =>
      tracer.startActiveSpan(
        'fetch',
        { attributes: { 'next.span_type': 'AppRender.fetch' } },
        async (span) => {
          const received = await headersReceived(loopback())
          span.end()
          return received
        },
      ),
    )
    const [fetched, ...others] = exporter.getFinishedSpans()
    expect([fetched?.name, ...others.map((span) => span.name)]).toEqual(['fetch', 'request'])
    expect(headers.traceparent).toContain(fetched?.spanContext().spanId)
  })

  it('has neither span nor headers where tracing is suppressed, as in an exporter', async () => {
    const suppressed = createContextKey('OpenTelemetry SDK Context Key SUPPRESS_TRACING')
    const headers = await asRequest(() =>
      context.with(context.active().setValue(suppressed, true), () => headersReceived(loopback())),
    )
    expect(headers).not.toHaveProperty('x-correlation-id')
    expect(exporter.getFinishedSpans().map((span) => span.name)).toEqual(['request'])
  })

  it("bears them to the request's own host", async () => {
    const own = requestContext({ host: `0.0.0.0:${port}` })
    expect(await runInContext(own, () => headersReceived(elsewhere()))).toMatchObject({
      'x-correlation-id': 'order-7',
    })
  })

  it('bears neither to a host that is not listed', async () => {
    await runInContext(requestContext({ host: 'shop.example' }), () =>
      tracer.startActiveSpan('request', async (span) => {
        const headers = await headersReceived(elsewhere())
        expect(headers).not.toHaveProperty('x-correlation-id')
        expect(headers).not.toHaveProperty('traceparent')
        span.end()
      }),
    )
  })

  it('bears neither on when a host redirects to another', async () => {
    const headers = await runInContext(requestContext(), () => headersReceived(`${loopback()}redirect`))
    expect(headers.host).toBe(`0.0.0.0:${port}`)
    expect(headers).not.toHaveProperty('x-correlation-id')
    expect(headers).not.toHaveProperty('traceparent')
  })

  it('keeps the headers that the app set itself, in whatever case', async () => {
    const traceparent = `00-${TRACE_ID}-00f067aa0ba902b7-00`
    await runInContext(requestContext(), () =>
      tracer.startActiveSpan('request', async (span) => {
        const headers = await headersReceived(loopback(), {
          headers: { 'X-Correlation-ID': 'mine', Traceparent: traceparent },
        })
        expect(headers).toMatchObject({ 'x-correlation-id': 'mine', traceparent })
        span.end()
      }),
    )
  })

  it('leaves every other header as it was', async () => {
    const init = { method: 'POST', headers: { 'x-shop': 'a' }, body: 'text' }
    const bare = await headersReceived(loopback(), init)
    const headers = await runInContext(requestContext(), () => headersReceived(loopback(), init))
    expect(headers).toEqual({ ...bare, ...BOTH })
  })

  it('keeps the IDs of concurrent requests apart', async () => {
    const ids = Array.from({ length: 20 }, (_, index) => `order-${index}`)
    const received = ids.map((id) => runInContext(requestContext({ id }), () => headersReceived(loopback())))
    expect((await Promise.all(received)).map((headers) => headers['x-correlation-id'])).toEqual(ids)
  })
})

describe("Node's fetch, outside a request", () => {
  it('bears nothing, not even to loopback and with an active span', async () => {
    await tracer.startActiveSpan('start-up', async (span) => {
      const headers = await headersReceived(loopback())
      expect(headers).not.toHaveProperty('x-correlation-id')
      expect(headers).not.toHaveProperty('traceparent')
      span.end()
    })
  })
})

describe('which hosts get the headers', () => {
  it.each([
    'http://localhost',
    'http://localhost:3000',
    'https://shop.localhost:3000',
    'http://127.0.0.1:3000',
    'http://127.8.9.10',
    'http://[::1]:3000',
    // The request's own, which came over https.
    'https://shop.example',
    'http://shop.example:80',
    'https://api.example.com',
    'https://api.example.com:8443',
    'https://eu.api.example.org',
    'https://api.example.org:8443',
    'https://ported.example.net:8443',
    'https://eu.ported.example.net:8443',
    'https://shard-12.example.net:8443',
  ])('%s does', (origin) => {
    expect(headersAdded(origin)).toEqual(BOTH)
    expect(headersAdded(new URL(origin))).toEqual(BOTH)
  })

  it.each([
    'https://example.com',
    'https://eu.api.example.com',
    'https://api.example.com.evil.example',
    'https://evil-api.example.com',
    // `*.` stands for a name of its own: neither the bare domain, nor one that only ends alike.
    'https://example.org',
    'https://evilexample.org',
    'https://ported.example.net',
    'https://ported.example.net:9443',
    'https://eu.ported.example.net:9443',
    'https://shard-12.example.net',
    'https://shard-x.example.net:8443',
    'https://shop.example:8443',
    'https://eu.shop.example',
    'http://localhost.example',
    'http://notlocalhost',
    'http://127.0.0.1.example',
    'http://[::2]:3000',
    'http://10.0.0.1',
    'no origin',
    undefined,
  ])('%s does not', (origin) => {
    expect(headersAdded(origin)).toEqual({})
  })

  it('is decided anew for each call by a RegExp, whatever its flags', () => {
    const calls = [1, 2, 3, 4].map(() => headersAdded('https://flagged.example'))
    expect(calls).toEqual(Array(4).fill(BOTH))
  })
})

describe('the headers of a call, as older versions of undici keep them: one text', () => {
  it('are looked through for what the app set', () => {
    const text = 'accept: */*\r\nX-Correlation-ID: mine\r\n'
    expect(headersAdded('http://localhost', text)).toEqual({ traceparent: BOTH.traceparent })
    expect(headersAdded('http://localhost', 'accept: */*\r\n')).toEqual(BOTH)
  })

  it('are told by their names alone, not by a value or by the end of a name', () => {
    for (const text of ['x-query: x-correlation-id:7\r\n', 'other-x-correlation-id: 7\r\n']) {
      expect(headersAdded('http://localhost', text)).toEqual(BOTH)
    }
  })
})

describe('the tally of a request', () => {
  it('counts each call once its body is read, whatever the host', async () => {
    const context = requestContext()
    await runInContext(context, async () => {
      await headersReceived(loopback())
      await headersReceived(elsewhere())
    })
    await headersReceived(loopback())
    expect(context.calls).toEqual({ fetch: { count: 2, durationMs: expect.any(Number) } })
    expect(context.calls.fetch?.durationMs).toBeGreaterThan(0)
  })

  it('counts a call that failed, and one whose body nobody read to its end', async () => {
    const context = requestContext()
    await runInContext(context, async () => {
      await expect(fetch(`http://127.0.0.1:${await freePort()}/`)).rejects.toThrow('fetch failed')
      expect(context.calls.fetch?.count).toBe(1)
      const abort = new AbortController()
      const response = await fetch(unending.url, { signal: abort.signal })
      abort.abort()
      await expect(response.text()).rejects.toThrow('aborted')
      expect(context.calls.fetch?.count).toBe(2)
    })
  })

  it('goes to the request that made the call, not to the one that is active when it ends', async () => {
    const first = requestContext({ id: 'first' })
    const second = requestContext({ id: 'second' })
    const response = await runInContext(first, () => fetch(loopback()))
    await runInContext(second, () => response.text())
    expect([first.calls.fetch?.count, second.calls.fetch]).toEqual([1, undefined])
  })

  const unending = { url: '' }
  let unendingServer: Server
  beforeAll(async () => {
    unendingServer = createServer((_, response) => void response.write('more to come')).listen(0, '127.0.0.1')
    await once(unendingServer, 'listening')
    unending.url = `http://127.0.0.1:${(unendingServer.address() as AddressInfo).port}/`
  })
  afterAll(() => {
    unendingServer.close()
    unendingServer.closeAllConnections()
  })
})

function requestContext({ id = 'order-7', host }: { id?: string; host?: string } = {}): RequestContext {
  return createContext({ correlationId: id, traceId: TRACE_ID }, host === undefined ? {} : { host })
}

/** Runs code as a request of the app, under a span named `request`. */
function asRequest<T>(body: () => Promise<T>): Promise<T> {
  exporter.reset()
  return runInContext(requestContext(), () =>
    tracer.startActiveSpan('request', async (span) => {
      const result = await body()
      span.end()
      return result
    }),
  )
}

async function headersReceived(url: string, init?: RequestInit): Promise<IncomingHttpHeaders> {
  const response = await fetch(url, init)
  return (await response.json()) as IncomingHttpHeaders
}

/** What is added to a call from a request to `shop.example`, as undici announces the call. */
function headersAdded(
  origin: string | URL | undefined,
  headers: string | unknown[] = [],
): Record<string, string> {
  const added: Record<string, string> = {}
  const request = {
    origin,
    headers,
    addHeader(name: string, value: string) {
      added[name] = value
    },
  }
  runInContext(requestContext({ host: 'shop.example' }), () =>
    channel('undici:request:create').publish({ request }),
  )
  return added
}
