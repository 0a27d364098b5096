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

describe.skipIf(bridge === undefined)('the pipeline that a client makes of what is asked in one turn', () => {
  const create = () => new Redis({ ...connection, retry: false })
  const spansOf = (id: string) =>
    exporter
      .getFinishedSpans()
      .filter(({ attributes }) => attributes['correlation.id'] === id)
      .map(({ name, attributes }) => ({
        name,
        size: attributes['db.operation.batch.size'],
        hit: attributes['idempotency.hit'],
        race: attributes['idempotency.race'],
      }))
  const plain = { size: undefined, hit: undefined, race: undefined }

  it('is a span in each of its requests, with that request in its tally', async () => {
    const client = instrumentKv(create())
    const tallies: unknown[] = []
    await Promise.all([
      inRequest('first', async () => {
        await client.get('nothing')
        tallies.push(getContext().calls.kv?.count)
      }),
      inRequest('second', async () => {
        await Promise.all([client.get('nothing'), client.get('nothing')])
        tallies.push(getContext().calls.kv?.count)
      }),
    ])
    expect(bridge?.headers).toHaveLength(1)
    expect(bridge?.headers[0]?.['x-correlation-id']).toBe('first')
    expect(spansOf('first')).toEqual([
      { ...plain, name: 'GET' },
      { ...plain, name: 'request' },
    ])
    expect(spansOf('second')).toEqual([
      { ...plain, name: 'PIPELINE', size: 2 },
      { ...plain, name: 'request' },
    ])
    expect(tallies).toEqual([1, 1])
    for (const span of kvSpans()) {
      const request = exporter
        .getFinishedSpans()
        .find(
          ({ name, attributes }) =>
            name === 'request' && attributes['correlation.id'] === span.attributes['correlation.id'],
        )
      expect(span.parentSpanContext?.spanId).toBe(request?.spanContext().spanId)
    }
  })

  it('flags the request that asked for the key, and no other', async () => {
    const client = instrumentKv(create())
    const key = `idempotency:${randomUUID()}`
    await inRequest('writer', () => client.set(key, 'order 1'))
    exporter.reset()
    await Promise.all([
      inRequest('first', () => client.get('nothing')),
      inRequest('second', () => client.get(key)),
    ])
    expect(spansOf('first').map(({ hit }) => hit)).toEqual([undefined, undefined])
    expect(spansOf('second').map(({ hit }) => hit)).toEqual([true, true])
  })

  it('makes the requests that missed the key parties to their race, and no other', async () => {
    const client = instrumentKv(create())
    const key = `idempotency:${randomUUID()}`
    await Promise.all([
      inRequest('bystander', () => client.get('nothing')),
      inRequest('first', () => client.get(key)),
      inRequest('second', () => client.get(key)),
    ])
    const races = ['bystander', 'first', 'second'].map((id) => spansOf(id).at(-1)?.race)
    expect(races).toEqual([undefined, true, true])
  })

  it('is no span for what is asked outside a request, and leaves nobody out who is in one', async () => {
    const client = instrumentKv(create())
    const key = `idempotency:${randomUUID()}`
    await client.set(key, 'order 1')
    await Promise.all([client.get(key), inRequest('first', () => client.get('nothing')), client.get(key)])
    expect(spansOf('first')).toEqual([
      { ...plain, name: 'GET' },
      { ...plain, name: 'request' },
    ])
    expect(kvSpans()).toHaveLength(1)
    expect(bridge?.headers.at(-1)?.['x-correlation-id']).toBe('first')
  })

  it('marks the command that failed in its own request', async () => {
    const client = instrumentKv(create())
    const list = `list:${randomUUID()}`
    await client.lpush(list, 'x')
    const [fine, failed] = await Promise.allSettled([
      inRequest('first', () => client.get('nothing')),
      inRequest('second', () => client.get(list)),
    ])
    expect([fine.status, failed.status]).toEqual(['fulfilled', 'rejected'])
    expect(kvSpans().map(({ attributes }) => attributes['error.type'])).toEqual([undefined, 'WRONGTYPE'])
  })

  it('flags nobody where another hook of the app has rewritten the commands', async () => {
    const client = instrumentKv(create())
    client.use((request, next) => next({ ...request, body: structuredClone(request.body) }))
    const key = `idempotency:${randomUUID()}`
    await client.set(key, 'order 1')
    await Promise.all([
      inRequest('first', () => client.get('nothing')),
      inRequest('second', () => client.get(key)),
    ])
    for (const span of exporter.getFinishedSpans())
      expect(span.attributes).not.toHaveProperty('idempotency.hit')
    // One that is sent alone is the request's that sends it.
    await inRequest('third', () => client.get(key))
    expect(spansOf('third').map(({ hit }) => hit)).toEqual([true, true])
  })
})

describe('instrumentKv', () => {
  it('refuses a client without the hook', () => {
    expect(() => instrumentKv({} as Redis)).toThrow(/must be a client of @upstash\/redis/)
  })
})
