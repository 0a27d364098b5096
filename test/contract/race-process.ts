/**
 * One process of an app with a hand-written recipe, started by `races-across-processes.test.ts`:
 * `node race-process.ts <set-up as JSON>`. Each request stops after its look at the key and after its write, says so,
 * and goes on when it is told to.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { trace } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'
import { Redis as UpstashRedis } from '@upstash/redis'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { correlationSpanProcessor, throughline } from 'throughline/instrumentation'

export interface SetUp {
  redisUrl: string
  upstash: { url: string; token: string }
  raceStore: 'none' | 'ioredis' | 'node-redis' | '@upstash/redis' | 'ioredis, away'
}

/** A request as its first span shows it. */
export interface ShownRequest {
  traceId: string
  spanId: string
  attributes: Record<string, unknown>
  links: { traceId: string; spanId: string; attributes: Record<string, unknown> }[]
  events: string[]
}

export type FromProcess =
  | { url: string }
  | { step: 'looked' | 'written'; id: string }
  | { requests: Record<string, ShownRequest>; otherSpans: string[] }
export type ToProcess = { goOn: string } | 'report'

const setUp: SetUp = JSON.parse(process.argv[2] ?? '{}')

const exporter = new tracing.InMemorySpanExporter()
new node.NodeTracerProvider({
  spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
}).register()
const raceStore = await openRaceStore()
await throughline({ localFiles: false, ...(raceStore === undefined ? {} : { raceStore }) }).register()

const kv = new Redis(setUp.redisUrl)
await kv.ping()
const requests: Record<string, tracing.ReadableSpan> = {}
const goOn = new Map<string, () => void>()

const server = createServer((request, response) => {
  const id = String(request.headers['x-correlation-id'])
  const { searchParams } = new URL(request.url ?? '', 'http://localhost')
  const key = searchParams.get('key') ?? ''
  trace.getTracer('app').startActiveSpan('request', async (span) => {
    requests[id] = span as unknown as tracing.ReadableSpan
    const found = await kv.get(key)
    await stop(id, 'looked')
    if (found === null && searchParams.has('writes')) await kv.set(key, 'done')
    await stop(id, 'written')
    span.end()
    response.end('done')
  })
})
server.listen(0, '127.0.0.1', () =>
  say({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }),
)

process.on('message', (message: ToProcess) => {
  if (message !== 'report') {
    goOn.get(message.goOn)?.()
    return
  }
  say({
    requests: Object.fromEntries(Object.entries(requests).map(([id, span]) => [id, shown(span)])),
    otherSpans: exporter
      .getFinishedSpans()
      .map(({ name }) => name)
      .filter((name) => name !== 'request'),
  })
})

function stop(id: string, step: 'looked' | 'written'): Promise<void> {
  return new Promise((resolve) => {
    goOn.set(id, resolve)
    say({ step, id })
  })
}

function say(message: FromProcess): void {
  process.send?.(message)
}

function shown(span: tracing.ReadableSpan): ShownRequest {
  const { traceId, spanId } = span.spanContext()
  return {
    traceId,
    spanId,
    attributes: span.attributes,
    links: span.links.map(({ context, attributes = {} }) => ({
      traceId: context.traceId,
      spanId: context.spanId,
      attributes,
    })),
    events: span.events.map(({ name }) => name),
  }
}

async function openRaceStore() {
  switch (setUp.raceStore) {
    case 'none':
      return undefined
    case 'ioredis':
      return new Redis(setUp.redisUrl)
    case '@upstash/redis':
      return new UpstashRedis({ ...setUp.upstash, retry: false })
    case 'ioredis, away': {
      const client = new Redis('redis://127.0.0.1:1', { lazyConnect: true, retryStrategy: () => null })
      client.on('error', () => {})
      return client
    }
    case 'node-redis': {
      const client = createClient({ url: setUp.redisUrl })
      await client.connect()
      return client
    }
  }
}
