import { randomUUID } from 'node:crypto'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { traceIoredis } from '../../src/clients/kv/ioredis-channels.ts'
import { compileKeyPatterns } from '../../src/clients/kv/key-patterns.ts'
import { traceNodeRedis } from '../../src/clients/kv/node-redis-channels.ts'
import { getContext, runWithCorrelation } from '../../src/context/index.ts'
import { correlationIdGenerator, correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'
import { freePort } from '../support/free-port.ts'
import { startRedis } from '../support/redis.ts'

const exporter = new tracing.InMemorySpanExporter()
const provider = new node.NodeTracerProvider({
  idGenerator: correlationIdGenerator(),
  spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
})
provider.register()
const tracer = provider.getTracer('test')

const isIdempotencyKey = compileKeyPatterns(['idempotency:*'])
traceIoredis(isIdempotencyKey)
traceNodeRedis(isIdempotencyKey)

const redis = await startRedis()
afterAll(() => redis?.stop())
beforeEach(() => exporter.reset())

/** The commands of these tests, in one spelling for both clients. */
interface Commands {
  get(key: string): Promise<unknown>
  set(key: string, value: string): Promise<unknown>
  setIfAbsent(key: string, value: string): Promise<unknown>
  exists(key: string): Promise<unknown>
  hashSet(key: string, field: string, value: string): Promise<unknown>
  hashGet(key: string, field: string): Promise<unknown>
  push(key: string, value: string): Promise<unknown>
  setThenGetInMulti(key: string): Promise<unknown>
}

interface Connection extends Commands {
  connect(): Promise<unknown>
  close(): void
  /** Redis' number of this connection. */
  id(): Promise<unknown>
  /** Cuts another connection. */
  kill(id: string): Promise<unknown>
  /** Resolves when the client next says that it is `reconnecting` or `ready`. */
  next(event: 'reconnecting' | 'ready'): Promise<void>
}

function ioredis(url: string): Connection {
  const client = new Redis(url, { lazyConnect: true })
  client.on('error', () => {})
  return {
    connect: () => client.connect(),
    close: () => client.disconnect(),
    get: (key) => client.get(key),
    set: (key, value) => client.set(key, value),
    setIfAbsent: (key, value) => client.set(key, value, 'EX', 60, 'NX'),
    exists: (key) => client.exists(key),
    hashSet: (key, field, value) => client.hset(key, field, value),
    hashGet: (key, field) => client.hget(key, field),
    push: (key, value) => client.lpush(key, value),
    setThenGetInMulti: (key) => client.multi().set(key, 'done').get(key).exec(),
    id: () => client.client('ID'),
    kill: (id) => client.client('KILL', 'ID', id),
    next: (event) => new Promise((resolve) => client.once(event, () => resolve())),
  }
}

function nodeRedis(url: string): Connection {
  const client = createClient({ url })
  client.on('error', () => {})
  return {
    connect: () => client.connect(),
    close: () => client.destroy(),
    get: (key) => client.get(key),
    set: (key, value) => client.set(key, value),
    setIfAbsent: (key, value) => client.set(key, value, { NX: true, EX: 60 }),
    exists: (key) => client.exists(key),
    hashSet: (key, field, value) => client.hSet(key, field, value),
    hashGet: (key, field) => client.hGet(key, field),
    push: (key, value) => client.lPush(key, value),
    setThenGetInMulti: (key) => client.multi().set(key, 'done').get(key).exec(),
    id: () => client.sendCommand(['CLIENT', 'ID']),
    kill: (id) => client.sendCommand(['CLIENT', 'KILL', 'ID', id]),
    next: (event) => new Promise((resolve) => client.once(event, () => resolve())),
  }
}

describe.skipIf(redis === undefined).each([
  ['ioredis', ioredis],
  ['node-redis', nodeRedis],
])('%s', (_, createConnection) => {
  const url = redis?.url ?? ''
  const connection = createConnection(url)
  const connected = redis === undefined ? undefined : connection.connect()
  afterAll(() => connection.close())

  /** Runs commands as a request, and returns the spans of those commands. */
  async function spansOf(
    body: (kv: Commands) => Promise<unknown>,
    correlationId = 'order-7',
  ): Promise<tracing.ReadableSpan[]> {
    await connected
    exporter.reset()
    await runWithCorrelation(correlationId, () =>
      tracer.startActiveSpan('request', async (request) => {
        await body(connection)
        request.end()
      }),
    )
    return exporter.getFinishedSpans().filter((span) => span.name !== 'request')
  }

  it('gives each command of a request a client span in the database conventions', async () => {
    const [get, ...others] = await spansOf((kv) => kv.get('session:1'))
    expect(others).toEqual([])
    expect(get?.name).toBe('GET')
    expect(get?.kind).toBe(SpanKind.CLIENT)
    expect(get?.attributes).toEqual({
      'correlation.id': 'order-7',
      'db.system.name': 'redis',
      'db.operation.name': 'GET',
      'db.namespace': '0',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
    })
    expect(get?.status.code).toBe(SpanStatusCode.UNSET)
    const request = exporter.getFinishedSpans().find((span) => span.name === 'request')
    expect(get?.parentSpanContext?.spanId).toBe(request?.spanContext().spanId)
  })

  it('gives no span to a command outside a request', async () => {
    await connected
    await connection.get('session:1')
    await connection.setThenGetInMulti('session:1')
    expect(exporter.getFinishedSpans()).toEqual([])
  })

  it("counts the commands in the request's tally, a batch as one", async () => {
    await spansOf(async (kv) => {
      await kv.get('session:1')
      await kv.get('session:2')
      await kv.setThenGetInMulti('session:3')
      expect(getContext().calls.kv?.count).toBe(3)
      expect(getContext().calls.kv?.durationMs).toBeGreaterThan(0)
    })
  })

  it('flags a GET that finds an idempotency key, and links it to the first use', async () => {
    const key = newKey()
    const [, set] = await spansOf(async (kv) => {
      await kv.get(key)
      await kv.set(key, 'done')
    }, 'first')
    const first = requestSpan()
    expect(set?.attributes).not.toHaveProperty('idempotency.hit')
    expect(first.attributes).not.toHaveProperty('idempotency.hit')

    const [hit] = await spansOf((kv) => kv.get(key), 'second')
    const origin = {
      'idempotency.origin.trace_id': first.spanContext().traceId,
      'idempotency.origin.span_id': first.spanContext().spanId,
      'idempotency.origin.correlation_id': 'first',
    }
    for (const span of [hit, requestSpan()]) {
      expect(span?.attributes).toMatchObject({
        'correlation.id': 'second',
        'idempotency.hit': true,
        'idempotency.hits': 1,
        'idempotency.outcome': 'replay',
        'idempotency.key_hash': expect.stringMatching(/^[0-9a-f]{16}$/),
        'idempotency.age_ms': expect.any(Number),
        ...origin,
      })
      expect(span?.events.map((event) => event.name)).toEqual(['idempotency.hit'])
      expect(span?.links.map((link) => link.context.spanId)).toEqual([first.spanContext().spanId])
      expect(span?.status.code).toBe(SpanStatusCode.UNSET)
    }
  })

  it('flags a SET NX that is refused', async () => {
    const key = newKey()
    const [won, refused] = await spansOf(async (kv) => {
      await kv.setIfAbsent(key, 'done')
      await kv.setIfAbsent(key, 'done')
    })
    expect(won?.attributes).not.toHaveProperty('idempotency.hit')
    expect(refused?.attributes).toMatchObject({ 'idempotency.hit': true, 'idempotency.outcome': 'busy' })
  })

  it('flags an EXISTS that finds an idempotency key', async () => {
    const key = newKey()
    const [absent, , present] = await spansOf(async (kv) => {
      await kv.exists(key)
      await kv.set(key, 'done')
      await kv.exists(key)
    })
    expect(absent?.attributes).not.toHaveProperty('idempotency.hit')
    expect(present?.attributes).toMatchObject({ 'idempotency.hit': true, 'idempotency.outcome': 'replay' })
  })

  it('counts the hits of a key, and tells the log line of the last one', async () => {
    const key = newKey()
    const [, ...gets] = await spansOf(async (kv) => {
      await kv.set(key, 'done')
      await kv.get(key)
      await kv.get(key)
      expect(getContext().idempotency).toMatchObject({ outcome: 'replay', hit: true, hits: 2 })
    })
    expect(gets.map((span) => span.attributes['idempotency.hits'])).toEqual([1, 2])
  })

  it('flags nothing on keys that are not idempotency keys', async () => {
    const spans = await spansOf(async (kv) => {
      await kv.set('session:9', 'value')
      await kv.get('session:9')
      await kv.exists('session:9')
    })
    for (const span of [...spans, requestSpan()])
      expect(span.attributes).not.toHaveProperty('idempotency.hit')
  })

  // Both clients blank all arguments of HGET and HGETALL, the key too: there is nothing to compare.
  it('gives an HGET its span, without a flag, because the client does not tell its key', async () => {
    const key = newKey()
    const spans = await spansOf(async (kv) => {
      await kv.hashSet(key, 'state', 'done')
      await kv.hashGet(key, 'state')
    })
    expect(spans.map((span) => span.name)).toEqual(['HSET', 'HGET'])
    for (const span of spans) expect(span.attributes).not.toHaveProperty('idempotency.hit')
  })

  it('shows a MULTI as one span with its size, and takes no QUEUED for a hit', async () => {
    const spans = await spansOf((kv) => kv.setThenGetInMulti(newKey()))
    expect(spans.map((span) => span.name)).toEqual(['MULTI'])
    expect(spans[0]?.attributes).toMatchObject({
      'db.operation.name': 'MULTI',
      'db.operation.batch.size': 2,
    })
    for (const span of [...spans, requestSpan()])
      expect(span.attributes).not.toHaveProperty('idempotency.hit')
  })

  it('names the error of a failed command by its code, without the text that may quote a key', async () => {
    const key = newKey()
    const [, push] = await spansOf(async (kv) => {
      await kv.set(key, 'text')
      await expect(kv.push(key, 'item')).rejects.toThrow('WRONGTYPE')
    })
    expect(push?.attributes['error.type']).toBe('WRONGTYPE')
    expect(push?.status).toEqual({ code: SpanStatusCode.ERROR, message: 'WRONGTYPE' })
    expect(push?.events).toEqual([])
  })

  it('writes no key and no value anywhere in its spans', async () => {
    const secret = randomUUID()
    const key = newKey(secret)
    await spansOf(async (kv) => {
      await kv.setIfAbsent(key, secret)
      await kv.setIfAbsent(key, secret)
      await kv.get(key)
      await kv.exists(key)
      await kv.push(key, secret).catch(() => {})
      await kv.setThenGetInMulti(key)
      await kv.hashSet(`hash:${key}`, secret, secret)
    })
    expect(JSON.stringify(exporter.getFinishedSpans().map(written))).not.toContain(secret)
  })

  it('keeps the ID of the request that opened a connection off what comes after a reconnect', async () => {
    const own = createConnection(url)
    try {
      await runWithCorrelation('opener', async () => {
        await own.connect()
        await own.get('session:1')
      })
      const id = String(await own.id())
      exporter.reset()
      const reconnecting = own.next('reconnecting')
      const ready = own.next('ready')
      await connected
      await connection.kill(id)
      await reconnecting
      // Waits in the client's queue, which the client empties when it is connected again.
      await runWithCorrelation('waiting', () => own.get('session:1'))
      await ready
      await runWithCorrelation('later', () => own.get('session:1'))
      const ids = exporter.getFinishedSpans().map((span) => span.attributes['correlation.id'])
      expect(ids).toContain('later')
      expect(ids).not.toContain('opener')
    } finally {
      own.close()
    }
  })

  function newKey(secret: string = randomUUID()): string {
    return `idempotency:${secret}`
  }
})

describe.each([
  ['ioredis', (url: string) => new Redis(url, { lazyConnect: true, retryStrategy: () => null })],
  ['node-redis', (url: string) => createClient({ url, socket: { reconnectStrategy: false } })],
])('%s where nothing listens', (_, create) => {
  it('shows once, in the request that connects, that it could not, and why', async () => {
    const port = await freePort()
    const client = create(`redis://127.0.0.1:${port}`)
    client.on('error', () => {})
    exporter.reset()
    await runWithCorrelation('order-7', () =>
      tracer.startActiveSpan('request', async (request) => {
        await expect(client.connect()).rejects.toThrow()
        request.end()
      }),
    )
    const [failed, request] = exporter.getFinishedSpans()
    expect(failed?.name).toBe('CONNECT')
    expect(failed?.attributes).toMatchObject({
      'correlation.id': 'order-7',
      'db.system.name': 'redis',
      'server.port': port,
      'error.type': expect.stringMatching(/^(ECONNREFUSED|Error)$/),
    })
    expect(failed?.parentSpanContext?.spanId).toBe(request?.spanContext().spanId)
  })
})

describe.skipIf(redis === undefined)('what only one client can do', () => {
  it('shows a pipeline of node-redis as one span with its size', async () => {
    const client = createClient({ url: redis?.url ?? '' })
    await client.connect()
    await runWithCorrelation('order-7', () => client.multi().get('a').get('b').get('c').execAsPipeline())
    client.destroy()
    const spans = exporter.getFinishedSpans()
    expect(spans.map((span) => span.name)).toEqual(['PIPELINE'])
    expect(spans[0]?.attributes['db.operation.batch.size']).toBe(3)
  })

  // It announces no batch for one.
  it('shows a pipeline of ioredis as its commands', async () => {
    const client = new Redis(redis?.url ?? '', { lazyConnect: true })
    await client.connect()
    await runWithCorrelation('order-7', () => client.pipeline().get('a').exists('b').exec())
    client.disconnect()
    expect(exporter.getFinishedSpans().map((span) => span.name)).toEqual(['GET', 'EXISTS'])
  })

  it('takes no QUEUED for a hit in a MULTI that ioredis sends command by command', async () => {
    const client = new Redis(redis?.url ?? '', { lazyConnect: true })
    await client.connect()
    await runWithCorrelation('order-7', async () => {
      await client.multi({ pipeline: false })
      await client.set(`idempotency:${randomUUID()}`, 'done', 'NX')
      await client.get(`idempotency:${randomUUID()}`)
      await client.exec()
    })
    client.disconnect()
    const spans = exporter.getFinishedSpans()
    expect(spans.map((span) => span.name)).toEqual(['MULTI', 'SET', 'GET', 'EXEC'])
    for (const span of spans) expect(span.attributes).not.toHaveProperty('idempotency.hit')
  })
})

function requestSpan(): tracing.ReadableSpan {
  const span = exporter.getFinishedSpans().find((candidate) => candidate.name === 'request')
  if (span === undefined) throw new Error('The request has no span.')
  return span
}

/** All that an exporter would write of a span. */
function written({ name, attributes, events, links, status }: tracing.ReadableSpan): unknown {
  return { name, attributes, events, links, status }
}
