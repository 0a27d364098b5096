import { randomUUID } from 'node:crypto'
import { Redis } from '@upstash/redis'
import { Redis as Ioredis } from 'ioredis'
import { afterAll, describe, expect, it } from 'vitest'
import { redisStore } from '../../src/idempotency/stores/redis.ts'
import { type UpstashClient, upstashStore } from '../../src/idempotency/stores/upstash.ts'
import { startRedis } from '../support/redis.ts'
import { startUpstashBridge } from '../support/upstash-bridge.ts'
import { describeStore, tokenOf } from './idempotency-store.ts'

const server = await startRedis()
const bridge = server && (await startUpstashBridge(server.url))
const connection = { url: bridge?.url ?? 'http://127.0.0.1:1', token: bridge?.token ?? 'none' }

// Its default export reads these as soon as it is imported.
process.env.KV_REST_API_URL = connection.url
process.env.KV_REST_API_TOKEN = connection.token
const { createClient } = await import('@vercel/kv')

afterAll(async () => {
  await bridge?.stop()
  await server?.stop()
})

const prefix = () => `test:${randomUUID()}:`
const use = { key: 'key', fingerprint: 'f', leaseMs: 60_000, retentionMs: 60_000 }

describe.skipIf(bridge === undefined).each<[string, UpstashClient]>([
  ['upstashStore on @upstash/redis', new Redis(connection)],
  [
    'upstashStore on @upstash/redis that parses nothing',
    new Redis({ ...connection, automaticDeserialization: false }),
  ],
  [
    'upstashStore on @upstash/redis that sends each command by itself',
    new Redis({ ...connection, enableAutoPipelining: false }),
  ],
  ['upstashStore on @vercel/kv', createClient(connection)],
])('%s', (name, client) => {
  describeStore(name, (now) => upstashStore(client, { onUnknown: 'retain', prefix: prefix(), now }))

  it('takes one request for a claim, and one to complete', async () => {
    const store = upstashStore(client, { onUnknown: 'retain', prefix: prefix() })
    await store.complete(tokenOf(await store.claim(use)), 'result')
    bridge?.commands.splice(0)
    const token = tokenOf(await store.claim({ ...use, key: 'another' }))
    expect(bridge?.commands.splice(0)).toEqual(['EVALSHA'])
    await store.complete(token, 'result')
    expect(bridge?.commands.splice(0)).toEqual(['EVALSHA'])
  })

  it('gives back texts that look like numbers as they were', async () => {
    const store = upstashStore(client, { onUnknown: 'retain', prefix: prefix() })
    const origin = { traceId: `12e4${'0'.repeat(28)}`, spanId: '1234567890123456', correlationId: '007' }
    await store.complete(tokenOf(await store.claim({ ...use, origin })), '{"a":1}')
    const replay = await store.claim(use)
    expect(replay).toMatchObject({ outcome: 'replay', result: '{"a":1}', origin })
    expect(await store.read(use.key)).toMatchObject({ state: 'completed', result: '{"a":1}', origin })
  })

  it('names the failure of a command without quoting what was to be stored', async () => {
    const keys = prefix()
    const store = upstashStore(client, { onUnknown: 'retain', prefix: keys })
    const token = tokenOf(await store.claim(use))
    const ioredis = new Ioredis(server?.url ?? '')
    await ioredis.del(`${keys}{${use.key}}`)
    await ioredis.lpush(`${keys}{${use.key}}`, 'not a text')
    ioredis.disconnect()
    const error = await store.complete(token, 'a secret result').catch((thrown: unknown) => thrown)
    expect(String(error)).toMatch(/WRONGTYPE/)
    expect(String(error)).not.toContain('secret')
  })
})

describe('upstashStore', () => {
  it('refuses what is not a client of these, and redisStore refuses theirs', () => {
    expect(() => upstashStore({} as UpstashClient, { onUnknown: 'retain' })).toThrow(
      /must be a client of @upstash\/redis or @vercel\/kv/,
    )
    const ioredis = new Ioredis({ lazyConnect: true }) as unknown as UpstashClient
    expect(() => upstashStore(ioredis, { onUnknown: 'retain' })).toThrow(TypeError)
    expect(() => redisStore(new Redis(connection) as never, { onUnknown: 'retain' })).toThrow(
      /Use upstashStore/,
    )
  })
})
