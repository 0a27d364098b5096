/**
 * `register` and what it exports for other set-ups. It changes the whole process (the HTTP server, the tracer
 * provider, signal handlers), so each case is a process of its own, on the built package.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { context, defaultTextMapSetter, ROOT_CONTEXT, type TextMapPropagator } from '@opentelemetry/api'
import { tracing } from '@opentelemetry/sdk-node'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  correlationIdGenerator,
  correlationPropagator,
  correlationSpanProcessor,
  onRequestError,
} from '../../instrumentation/index.ts'
import { runWithCorrelation } from '../../src/context/index.ts'
import { readSpans, type StoredSpan } from '../../src/query/traces/span-files.ts'
import { mustRun } from '../support/command.ts'
import { collectLogLines, type LogLine } from './log-lines.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'throughline-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

describe('register', () => {
  it('gives every request an ID, on its answer, its spans and its last line', async () => {
    const { result, lines } = await run(`
      await register()
      const { url, close } = await serve(() => trace.getTracer('app').startSpan('query').end())
      const response = await fetch(url + 'orders?token=a')
      await close()
      report({ id: response.headers.get('x-correlation-id') })
    `)
    const { id } = result as { id: string }
    expect(id).toMatch(/^[0-9a-f]{32}$/)
    expect(lines).toEqual([
      expect.objectContaining({
        msg: 'request completed',
        correlation_id: id,
        service: 'shop',
        method: 'GET',
        path: '/orders',
        status: 200,
      }),
    ])
    // Written as the process ended.
    expect(await spansWritten()).toEqual([
      expect.objectContaining({ name: 'query', traceId: id, attributes: { 'correlation.id': id } }),
    ])
  })

  it('does nothing the second time, whoever calls it', async () => {
    const { result, lines } = await run(`
      await Promise.all([register(), register()])
      const state = () => [
        trace.getTracerProvider().getDelegate(),
        Server.prototype.emit,
        process.listenerCount('SIGTERM'),
        process.listenerCount('SIGINT'),
        process.listenerCount('beforeExit'),
        channel('undici:request:create'),
      ]
      const before = state()
      await register()
      await throughline({ serviceName: 'other', correlationHeaders: ['x-other-id'] }).register()
      const inner = await serve(() => {})
      const outer = await serve(async () => void (await (await fetch(inner.url)).text()))
      const response = await fetch(outer.url)
      await outer.close()
      await inner.close()
      report({
        isUnchanged: state().every((part, index) => part === before[index]),
        id: response.headers.get('x-correlation-id'),
        otherId: response.headers.get('x-other-id'),
      })
    `)
    const { id, ...rest } = result as { id: string }
    expect(rest).toEqual({ isUnchanged: true, otherId: null })
    expect(lines.map(({ msg, service, correlation_id }) => [msg, service, correlation_id])).toEqual([
      ['request completed', 'shop', id],
      ['request completed', 'shop', id],
    ])
    // Counted once, though each call of register() could have subscribed again.
    expect(lines.map((line) => line.fetch_calls)).toContain(1)
  })

  it('keeps the tracer provider that is registered already, and puts the ID on its spans', async () => {
    const { result } = await run(`
      const exporter = new tracing.InMemorySpanExporter()
      const provider = new tracing.BasicTracerProvider({
        spanProcessors: [new tracing.SimpleSpanProcessor(exporter)],
      })
      trace.setGlobalTracerProvider(provider)
      await register()
      runWithCorrelation('order-7', () => trace.getTracer('app').startSpan('query').end())
      trace.getTracer('app').startSpan('start-up').end()
      report(exporter.getFinishedSpans().map(({ name, attributes }) => [name, attributes]))
    `)
    expect(result).toEqual([
      ['query', { 'correlation.id': 'order-7' }],
      ['start-up', {}],
    ])
    // No SDK of ours was started beside it, which would write here.
    expect(await spansWritten()).toEqual([])
  })

  it('works beside an SDK that the user set up with the exported pieces', async () => {
    const { result } = await run(`
      const exporter = new tracing.InMemorySpanExporter()
      new NodeSDK({
        idGenerator: correlationIdGenerator(),
        spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
        instrumentations: [],
      }).start()
      const provider = trace.getTracerProvider().getDelegate()
      await register()
      const { url, close } = await serve(() => {
        const span = trace.getTracer('app').startSpan('request')
        getContext().firstSpan.setAttribute('is.first', true)
        span.end()
      })
      const response = await fetch(url)
      const id = response.headers.get('x-correlation-id')
      await close()
      await provider.forceFlush()
      report({ id, spans: exporter.getFinishedSpans().map(({ name, attributes }) => [name, attributes]) })
    `)
    const { id, spans } = result as { id: string; spans: unknown }
    expect(spans).toEqual([['request', { 'correlation.id': id, 'is.first': true }]])
  })

  it('gives requests IDs and lines also with OTEL_SDK_DISABLED, and records no spans', async () => {
    const { result, lines } = await run(
      `
      await register()
      const { url, close } = await serve(() => trace.getTracer('app').startSpan('query').end())
      const response = await fetch(url)
      await close()
      report({ id: response.headers.get('x-correlation-id') })
    `,
      { OTEL_SDK_DISABLED: 'true' },
    )
    const { id } = result as { id: string }
    expect(id).toMatch(/^[0-9a-f]{32}$/)
    expect(lines).toEqual([
      expect.objectContaining({ msg: 'request completed', correlation_id: id, trace_id: id }),
    ])
    expect(await spansWritten()).toEqual([])
  })

  it('shows the trace ID of the request on a line written in a span, where no spans are recorded', async () => {
    const { result, lines } = await run(
      `
      await register()
      const { url, close } = await serve(() =>
        trace.getTracer('app').startActiveSpan('query', () => logger.info('order placed')),
      )
      const response = await fetch(url)
      await close()
      report({ id: response.headers.get('x-correlation-id') })
    `,
      { OTEL_TRACES_EXPORTER: 'none' },
    )
    const { id } = result as { id: string }
    const line = lines.find(({ msg }) => msg === 'order placed')
    expect(line).toMatchObject({ correlation_id: id, trace_id: id })
    expect(line).not.toHaveProperty('span_id')
  })

  it('rejects a bad option, and says which', async () => {
    const { result } = await run(`
      report(await throughline({ flushTimeoutMs: -1 }).register().catch((error) => error.message))
    `)
    expect(result).toBe(
      'throughline: "flushTimeoutMs" must be a number of milliseconds up to 2147483647, received -1.',
    )
  })
})

describe('the exported pieces', () => {
  it('make an SDK that the user sets up carry the ID, without register()', async () => {
    const { result } = await run(`
      const exporter = new tracing.InMemorySpanExporter()
      new NodeSDK({
        idGenerator: correlationIdGenerator(),
        spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
        textMapPropagator: new core.CompositePropagator({
          propagators: [new core.W3CTraceContextPropagator(), correlationPropagator()],
        }),
        instrumentations: [],
      }).start()
      const carrier = {}
      runWithCorrelation('${TRACE_ID}', () =>
        trace.getTracer('app').startActiveSpan('request', (span) => {
          propagation.inject(context.active(), carrier)
          span.end()
        }),
      )
      await trace.getTracerProvider().getDelegate().forceFlush()
      report({
        carrier,
        spans: exporter.getFinishedSpans().map((span) => ({
          ...span.spanContext(),
          attributes: span.attributes,
        })),
      })
    `)
    expect(result).toMatchObject({
      carrier: {
        'x-correlation-id': TRACE_ID,
        traceparent: expect.stringMatching(new RegExp(`^00-${TRACE_ID}-[0-9a-f]{16}-01$`)),
      },
      spans: [{ traceId: TRACE_ID, attributes: { 'correlation.id': TRACE_ID } }],
    })
  })

  it('have the types that the SDK asks for', async () => {
    const exporter = new tracing.InMemorySpanExporter()
    const provider = new tracing.BasicTracerProvider({
      idGenerator: correlationIdGenerator(),
      spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
    })
    runWithCorrelation(TRACE_ID, () => provider.getTracer('app').startSpan('request').end())
    provider.getTracer('app').startSpan('start-up').end()
    const [request, startUp] = exporter.getFinishedSpans()
    expect(request?.attributes).toEqual({ 'correlation.id': TRACE_ID })
    expect(request?.spanContext().traceId).toBe(TRACE_ID)
    expect(startUp?.attributes).toEqual({})
    expect(startUp?.spanContext().traceId).toMatch(/^(?!0+$)[0-9a-f]{32}$/)
    await provider.forceFlush()
    await provider.shutdown()
  })

  it('inject the header of their name in a request, and read none', () => {
    const propagator: TextMapPropagator = correlationPropagator('x-request-id')
    const injected = () => {
      const carrier = {}
      propagator.inject(ROOT_CONTEXT, carrier, defaultTextMapSetter)
      return carrier
    }
    expect(propagator.fields()).toEqual(['x-request-id'])
    expect(runWithCorrelation('order-7', injected)).toEqual({ 'x-request-id': 'order-7' })
    expect(injected()).toEqual({})
    const getter = { get: () => expect.unreachable('It read a header.'), keys: () => ['x-request-id'] }
    expect(propagator.extract(context.active(), { 'x-request-id': 'order-8' }, getter)).toBe(context.active())
  })
})

describe('onRequestError', () => {
  const lines = collectLogLines()
  const request = { path: '/orders?token=hunter2', method: 'POST', headers: { cookie: 'session=hunter2' } }
  const where = { routerKind: 'App Router', routePath: '/orders/[id]', routeType: 'action' }

  it('logs the error with its digest, its route and the ID of its request', async () => {
    const error = Object.assign(new RangeError('no stock'), { digest: '314159' })
    await runWithCorrelation('order-7', () =>
      onRequestError(error, request, { ...where, renderSource: 'server-rendering' }),
    )
    expect(lines).toEqual([
      expect.objectContaining({
        level: 50,
        msg: 'request error',
        correlation_id: 'order-7',
        method: 'POST',
        path: '/orders',
        route: '/orders/[id]',
        route_type: 'action',
        render_source: 'server-rendering',
        err: expect.objectContaining({ type: 'RangeError', message: 'no stock', digest: '314159' }),
      }),
    ])
  })

  it('logs neither the query nor the headers, which may hold secrets', async () => {
    await onRequestError('no stock', request, where)
    expect(lines).toHaveLength(1)
    expect(JSON.stringify(lines)).not.toContain('hunter2')
    expect(lines[0]).not.toHaveProperty('render_source')
  })

  it('does nothing on edge, where there is no logger', async () => {
    vi.stubEnv('NEXT_RUNTIME', 'edge')
    await onRequestError(new Error('no stock'), request, where)
    vi.unstubAllEnvs()
    expect(lines).toEqual([])
  })
})

/** What the scripts use; `report` hands a value to the test. */
const PRELUDE = `
  import { channel } from 'node:diagnostics_channel'
  import { once } from 'node:events'
  import { createServer, Server } from 'node:http'
  import { context, propagation, trace } from '@opentelemetry/api'
  import { core, NodeSDK, tracing } from '@opentelemetry/sdk-node'
  import { getContext, runWithCorrelation } from 'throughline'
  import { logger } from 'throughline/logging'
  import {
    correlationIdGenerator,
    correlationPropagator,
    correlationSpanProcessor,
    register,
    throughline,
  } from 'throughline/instrumentation'

  const report = (value) => console.log('REPORT ' + JSON.stringify(value))
  async function serve(handle) {
    const server = createServer(async (request, response) => {
      await handle(request)
      response.end('done')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      url: 'http://127.0.0.1:' + server.address().port + '/',
      async close() {
        server.close()
        server.closeIdleConnections()
        await once(server, 'close')
        // The last line is written in the turn after the response is closed.
        await new Promise(setImmediate)
      },
    }
  }
`

/** Runs a script in a process of its own; resolves to what it reported, and to the log lines it wrote. */
async function run(
  script: string,
  env: NodeJS.ProcessEnv = {},
): Promise<{ result: unknown; lines: LogLine[] }> {
  const { stdout } = await mustRun(process.execPath, ['--input-type=module', '--eval', PRELUDE + script], {
    cwd: REPOSITORY,
    env: { ...BARE_ENV, THROUGHLINE_DIR: directory, OTEL_SERVICE_NAME: 'shop', ...env },
  })
  const lines = stdout.split('\n').filter((line) => line !== '')
  const reported = lines.filter((line) => line.startsWith('REPORT '))
  expect(reported).toHaveLength(1)
  return {
    result: JSON.parse(reported[0]?.slice('REPORT '.length) ?? ''),
    lines: lines.filter((line) => !line.startsWith('REPORT ')).map((line) => JSON.parse(line)),
  }
}

async function spansWritten(): Promise<StoredSpan[]> {
  const spans: StoredSpan[] = []
  for await (const span of readSpans(directory)) spans.push(span)
  return spans
}

/** Without variables that would set up an SDK otherwise. */
const BARE_ENV = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(OTEL|THROUGHLINE|NEXT|NODE_ENV|VERCEL|VITEST)/.test(name),
  ),
)
