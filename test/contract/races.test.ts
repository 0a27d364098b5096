import { randomUUID } from 'node:crypto'
import { node, tracing } from '@opentelemetry/sdk-node'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { traceIoredis } from '../../src/clients/kv/ioredis-channels.ts'
import { compileKeyPatterns } from '../../src/clients/kv/key-patterns.ts'
import { traceNodeRedis } from '../../src/clients/kv/node-redis-channels.ts'
import { noteMiss } from '../../src/clients/kv/races.ts'
import {
  closeContext,
  createContext,
  getContext,
  randomTraceId,
  runInContext,
  runWithCorrelation,
} from '../../src/context/index.ts'
import { ensureContext } from '../../src/next/ensure-context.ts'
import { hashKey } from '../../src/telemetry/key-hash.ts'
import { correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'
import { startRedis } from '../support/redis.ts'
import { collectLogLines } from './log-lines.ts'

const lines = collectLogLines()
const exporter = new tracing.InMemorySpanExporter()
const provider = new node.NodeTracerProvider({
  spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
})
provider.register()
const tracer = provider.getTracer('test')

const isIdempotencyKey = compileKeyPatterns(['idempotency:*'])
traceIoredis(isIdempotencyKey)
traceNodeRedis(isIdempotencyKey)

const server = await startRedis()
const ioredis = new Redis(server?.url ?? '', { lazyConnect: true })
const nodeRedis = createClient({ url: server?.url ?? '' })
if (server !== undefined) await Promise.all([ioredis.connect(), nodeRedis.connect()])

afterAll(async () => {
  ioredis.disconnect()
  if (nodeRedis.isOpen) nodeRedis.destroy()
  await server?.stop()
})
beforeEach(() => exporter.reset())

/** The part of a client that the recipe uses. */
interface Kv {
  get(key: string): Promise<unknown>
  set(key: string, value: string): Promise<unknown>
}

function inRequest<T>(id: string, action: string, body: () => Promise<T>): Promise<T> {
  return runWithCorrelation(id, () =>
    tracer.startActiveSpan('request', async (span) => {
      Object.assign(getContext(), { firstSpan: span, action: { name: action } })
      try {
        return await body()
      } finally {
        span.end()
      }
    }),
  )
}

const requestSpans = () => exporter.getFinishedSpans().filter(({ name }) => name === 'request')
const warnings = () => lines.filter(({ msg }) => /missed the same idempotency key/.test(String(msg)))

/** The recipe as people write it; `looked` resolves when it has asked. */
function recipe(kv: Kv, key: string) {
  let look = () => {}
  const looked = new Promise<void>((resolve) => {
    look = resolve
  })
  const order = async (mayWrite: Promise<unknown>) => {
    if ((await kv.get(key)) !== null) return
    look()
    await mayWrite
    await kv.set(key, 'done')
  }
  return { order, looked }
}

describe.skipIf(server === undefined).each<[string, Kv]>([
  ['ioredis', ioredis],
  ['node-redis', nodeRedis as unknown as Kv],
])('the race of a hand-written recipe, on %s', (_, kv) => {
  it('is flagged on both requests, linked to each other, and named in a warning', async () => {
    const key = `idempotency:${randomUUID()}`
    const [one, other] = [recipe(kv, key), recipe(kv, key)]
    const both = Promise.all([one.looked, other.looked])
    await Promise.all([
      inRequest('first', 'createOrder', () => one.order(both)),
      inRequest('second', 'createOrder', () => other.order(both)),
    ])
    const spans = requestSpans()
    expect(spans).toHaveLength(2)
    for (const span of spans) {
      const twin = spans.find((candidate) => candidate !== span)
      expect(span.attributes['idempotency.race']).toBe(true)
      expect(span.links.map(({ context }) => context.spanId)).toContain(twin?.spanContext().spanId)
      const [event] = span.events.filter(({ name }) => name === 'idempotency.race')
      expect(event?.attributes?.['idempotency.key_hash']).toMatch(/^[0-9a-f]{16}$/)
    }
    expect(warnings()).toMatchObject([{ level: 40, action: 'createOrder', idempotency: { race: true } }])
    expect(JSON.stringify(lines)).not.toContain(key)
  })

  it('is none when one wrote before the other asked, when one asks twice, or when another key is missed', async () => {
    const key = `idempotency:${randomUUID()}`
    await inRequest('first', 'createOrder', async () => {
      await kv.get(key)
      await kv.get(key)
      await kv.set(key, 'done')
    })
    await inRequest('second', 'createOrder', () => kv.get(key))
    await inRequest('third', 'createOrder', () => kv.get(`idempotency:${randomUUID()}`))
    for (const span of requestSpans()) expect(span.attributes).not.toHaveProperty('idempotency.race')
    expect(warnings()).toEqual([])
  })

  it('is none with a request that is over without a write, whoever opened it', async () => {
    const key = `idempotency:${randomUUID()}`
    const look = async () => void (await kv.get(key))
    const served = createContext({ correlationId: 'served', traceId: randomTraceId() })
    await runInContext(served, look)
    closeContext(served)
    await runWithCorrelation('job', look)
    await runWithCorrelation('failed-job', () =>
      look().then(() => Promise.reject(new Error('no stock'))),
    ).catch(() => {})
    await ensureContext(async () => () => undefined, look)
    await inRequest('last', 'createOrder', look)
    expect(warnings()).toEqual([])
  })

  it('is none with what a request asks for after its response, in after() or unawaited', async () => {
    const key = `idempotency:${randomUUID()}`
    const served = createContext({ correlationId: 'served', traceId: randomTraceId() })
    closeContext(served)
    await runInContext(served, () => kv.get(key))
    await inRequest('second', 'createOrder', () => kv.get(key))
    expect(warnings()).toEqual([])
    expect(served.idempotency).toBeUndefined()
    expect(served.onClose).toBeUndefined()
  })
})

describe('a key that many requests miss at once', () => {
  afterEach(() => vi.restoreAllMocks())

  const missers = (count: number) =>
    Array.from({ length: count }, (_, index) => {
      const request = createContext({ correlationId: `order-${index}`, traceId: randomTraceId() })
      request.firstSpan = tracer.startSpan('request')
      return request
    })

  it('costs each of them the same, and flags them all, with a link', () => {
    const requests = missers(4_000)
    const keyHash = hashKey(randomUUID())
    let looks = 0
    Object.defineProperty(requests[0], 'isOver', { get: () => void looks++ })
    for (const request of requests) noteMiss(keyHash, request)
    expect(looks).toBeLessThanOrEqual(33)
    for (const { firstSpan, idempotency } of requests) {
      const { attributes, links } = firstSpan as unknown as tracing.ReadableSpan
      expect(attributes['idempotency.race']).toBe(true)
      expect(links.length).toBeGreaterThan(0)
      // Those before it that are remembered, and those after it.
      expect(links.length).toBeLessThanOrEqual(32)
      expect(idempotency).toMatchObject({ key_hash: keyHash, race: true })
    }
  })

  it('is warned of once in ten seconds, with a count', () => {
    let nowMs = 1_000_000
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs)
    const keyHash = hashKey(randomUUID())
    const [first, ...others] = missers(100)
    if (first !== undefined) noteMiss(keyHash, first)
    for (const request of others) noteMiss(keyHash, request)
    expect(warnings()).toMatchObject([{ other_correlation_id: 'order-0', races: 1 }])
    nowMs += 9_999
    for (const request of missers(2)) noteMiss(keyHash, request)
    expect(warnings()).toHaveLength(1)
    nowMs += 1
    for (const request of missers(2)) noteMiss(keyHash, request)
    expect(warnings().slice(1)).toMatchObject([{ races: 102, idempotency: { key_hash: keyHash } }])
    // Another key is another matter.
    for (const request of missers(2)) noteMiss(hashKey('another'), request)
    expect(warnings()).toHaveLength(3)
  })
})
