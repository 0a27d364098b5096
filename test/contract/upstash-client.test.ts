import { randomUUID } from 'node:crypto'
import { SpanStatusCode } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'
import { Redis } from '@upstash/redis'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { instrumentKv } from '../../src/clients/kv/upstash.ts'
import { getContext, runWithCorrelation } from '../../src/context/index.ts'
import { correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'
import { startRedis } from '../support/redis.ts'
import { startUpstashBridge } from '../support/upstash-bridge.ts'

const exporter = new tracing.InMemorySpanExporter()
const provider = new node.NodeTracerProvider({
  spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
})
provider.register()
const tracer = provider.getTracer('test')

const server = await startRedis()
const bridge = server && (await startUpstashBridge(server.url))
const connection = { url: bridge?.url ?? 'http://127.0.0.1:1', token: bridge?.token ?? 'none' }
process.env.KV_REST_API_URL = connection.url
process.env.KV_REST_API_TOKEN = connection.token
const { createClient } = await import('@vercel/kv')

afterAll(async () => {
  await bridge?.stop()
  await server?.stop()
})
beforeEach(() => {
  exporter.reset()
  bridge?.headers.splice(0)
})

const kvSpans = () => exporter.getFinishedSpans().filter(({ name }) => name !== 'request')

/** One request: a first span, under an ID. */
function inRequest<T>(id: string, body: () => Promise<T>): Promise<T> {
  return runWithCorrelation(id, () =>
    tracer.startActiveSpan('request', async (span) => {
      getContext().firstSpan = span
      try {
        return await body()
      } finally {
        span.end()
      }
    }),
  )
}

describe.skipIf(bridge === undefined).each<[string, () => Redis]>([
  ['@upstash/redis', () => new Redis({ ...connection, retry: false })],
  ['@upstash/redis, each command by itself', () => new Redis({ ...connection, enableAutoPipelining: false })],
  ['@vercel/kv', () => createClient(connection) as unknown as Redis],
])('instrumentKv on %s', (_, create) => {
  it('gives a command a span in its request, without its arguments', async () => {
    const client = instrumentKv(create())
    const key = `order:${randomUUID()}`
    await inRequest('the-id', () => client.set(key, 'a secret'))
    const [span, ...others] = kvSpans()
    expect(others).toEqual([])
    expect(span?.name).toBe('SET')
    expect(span?.attributes).toEqual({
      'correlation.id': 'the-id',
      'db.system.name': 'redis',
      'db.operation.name': 'SET',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(connection.url).port),
    })
    expect(await client.get(key)).toBe('a secret')
  })

  it('sends the ID and the trace on the REST call', async () => {
    const client = instrumentKv(create())
    await inRequest('the-id', () => client.get('nothing'))
    const [headers] = bridge?.headers ?? []
    expect(headers?.['x-correlation-id']).toBe('the-id')
    const { traceId, spanId } = kvSpans()[0]?.spanContext() ?? {}
    expect(headers?.traceparent).toBe(`00-${traceId}-${spanId}-01`)
  })

  it('flags the second use of a key of a hand-written recipe, on the command and on the request', async () => {
    const client = instrumentKv(create())
    const key = `idempotency:${randomUUID()}`
    await inRequest('first', async () => {
      expect(await client.get(key)).toBeNull()
      await client.set(key, 'order 1')
    })
    expect(exporter.getFinishedSpans().filter(({ attributes }) => attributes['idempotency.hit'])).toEqual([])
    exporter.reset()
    await inRequest('second', () => client.get(key))
    for (const name of ['GET', 'request']) {
      const span = exporter.getFinishedSpans().find((candidate) => candidate.name === name)
      expect(span?.attributes).toMatchObject({
        'idempotency.hit': true,
        'idempotency.outcome': 'replay',
        'idempotency.origin.correlation_id': 'first',
      })
    }
    expect(JSON.stringify(exporter.getFinishedSpans().map(({ attributes }) => attributes))).not.toContain(key)
  })

  it('flags a SET NX that finds the key taken', async () => {
    const client = instrumentKv(create())
    const key = `idempotency:${randomUUID()}`
    await inRequest('first', () => client.set(key, '1', { nx: true }))
    await inRequest('second', () => client.set(key, '2', { nx: true }))
    const hits = kvSpans().map(({ attributes }) => attributes['idempotency.outcome'])
    expect(hits).toEqual([undefined, 'busy'])
  })

  it('shows a pipeline and a transaction as one span each, with their count', async () => {
    const client = instrumentKv(create())
    await inRequest('the-id', () => client.pipeline().set('a', 1).get('a').exec())
    await inRequest('the-id', () => client.multi().set('a', 1).get('a').get('a').exec())
    expect(kvSpans().map(({ name, attributes }) => [name, attributes['db.operation.batch.size']])).toEqual([
      ['PIPELINE', 2],
      ['MULTI', 3],
    ])
  })

  it('marks a failed command by its code, without its text', async () => {
    const client = instrumentKv(create())
    const key = `secret-${randomUUID()}`
    await client.lpush(key, 'x')
    await expect(inRequest('the-id', () => client.get(key))).rejects.toThrow()
    const [span] = kvSpans()
    expect(span?.status).toEqual({ code: SpanStatusCode.ERROR, message: 'WRONGTYPE' })
    expect(span?.attributes['error.type']).toBe('WRONGTYPE')
  })

  it('leaves calls outside a request alone, and is applied once', async () => {
    const client = instrumentKv(instrumentKv(create()))
    await client.get('nothing')
    expect(exporter.getFinishedSpans()).toEqual([])
    expect(bridge?.headers[0]).not.toHaveProperty('x-correlation-id')
    await inRequest('the-id', () => client.get('nothing'))
    expect(kvSpans()).toHaveLength(1)
  })
})

describe('instrumentKv', () => {
  it('refuses a client without the hook', () => {
    expect(() => instrumentKv({} as Redis)).toThrow(/must be a client of @upstash\/redis/)
  })
})
