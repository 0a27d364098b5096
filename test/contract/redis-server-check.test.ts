import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { redisStore } from '../../src/idempotency/stores/redis.ts'
import type { RedisClient } from '../../src/idempotency/stores/redis-client.ts'
import { startRedis } from '../support/redis.ts'
import { collectLogLines } from './log-lines.ts'

const lines = collectLogLines()
const server = await startRedis()
const url = server?.url ?? 'redis://127.0.0.1:1'
const admin = new Redis(url, { lazyConnect: true })
const opened: { destroy(): void }[] = []

const clients: [string, () => Promise<RedisClient>][] = [
  [
    'ioredis',
    async () => {
      const client = new Redis(url)
      opened.push({ destroy: () => client.disconnect() })
      return client
    },
  ],
  [
    'node-redis',
    async () => {
      const client = createClient({ url })
      opened.push(client)
      await client.connect()
      return client as unknown as RedisClient
    },
  ],
]

beforeAll(async () => {
  if (server !== undefined) await admin.connect()
})
afterEach(async () => {
  if (server === undefined) return
  await admin.call('REPLICAOF', 'NO', 'ONE')
  await admin.config('SET', 'maxmemory', '0')
  await admin.config('SET', 'maxmemory-policy', 'noeviction')
  for (const client of opened.splice(0)) client.destroy()
})
afterAll(async () => {
  admin.disconnect()
  await server?.stop()
})

describe.skipIf(server === undefined).each(clients)('the server behind redisStore on %s', (_, connect) => {
  it('is warned about once per client when it evicts, with the mend', async () => {
    await admin.config('SET', 'maxmemory', '100mb')
    await admin.config('SET', 'maxmemory-policy', 'allkeys-lru')
    const client = await connect()
    for (const store of [
      redisStore(client, { onUnknown: 'retain' }),
      redisStore(client, { onUnknown: 'retain' }),
    ])
      await store.claim(use())
    await vi.waitFor(() => expect(warnings()).toHaveLength(1))
    expect(warnings()[0]).toMatch(/maxmemory-policy allkeys-lru.*CONFIG SET maxmemory-policy noeviction/)
    // Nothing more is under way: a later command of the same connection has been answered.
    await redisStore(client, { onUnknown: 'retain' }).claim(use())
    expect(warnings()).toHaveLength(1)
  })

  it('is warned about when it is a replica', async () => {
    const client = await connect()
    await admin.call('REPLICAOF', '127.0.0.1', '1')
    await redisStore(client, { onUnknown: 'retain' })
      .claim(use())
      .catch(() => {})
    await vi.waitFor(() =>
      expect(warnings().join()).toMatch(/is a replica.*Connect redisStore to the primary/),
    )
  })

  it('is left in peace when it keeps what it is given', async () => {
    // A policy does nothing while memory has no bound.
    await admin.config('SET', 'maxmemory-policy', 'allkeys-lru')
    const client = await connect()
    await redisStore(client, { onUnknown: 'retain' }).claim(use())
    await redisStore(client, { onUnknown: 'retain' }).claim(use())
    expect(warnings()).toEqual([])
  })
})

function use() {
  return { key: randomUUID(), fingerprint: 'f', leaseMs: 60_000, retentionMs: 60_000 }
}

function warnings(): string[] {
  return lines.filter((line) => line.level === 40).map((line) => String(line.msg))
}
