/** The contestants: each does the same with a key, a small payload and a small result, on the same Redis. */
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency'
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache'
import { Idempotency } from '@node-idempotency/core'
import { RedisStorageAdapter } from '@node-idempotency/storage-adapter-redis'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { runOnce } from '../../dist/src/idempotency/index.js'
import { redisStore } from '../../dist/src/idempotency/stores/redis.js'

/** One way of using a key: runs `body` the first time, and answers with its result then and later. */
export type PlaceOnce = (key: string, payload: Payload, body: () => Result) => Promise<unknown>

export interface Payload {
  item: string
  quantity: number
}

export interface Result {
  orderId: number
  placedAt: string
}

const LEASE_MS = 30_000
const RETENTION_MS = 86_400_000

export const CONTESTANTS: Record<string, (url: string) => Promise<PlaceOnce>> = {
  // The limit: a SET NX and a SET, or a GET, without hashing, fingerprint, fence, lease or history.
  async raw(url) {
    const client = createClient({ url })
    await client.connect()
    return async (key, _payload, body) => {
      const won = await client.set(key, 'claimed', {
        condition: 'NX',
        expiration: { type: 'PX', value: LEASE_MS },
      })
      if (won === null) return JSON.parse((await client.get(key)) ?? '')
      const result = body()
      await client.set(key, JSON.stringify(result), { expiration: { type: 'PX', value: RETENTION_MS } })
      return result
    }
  },

  async throughline(url) {
    const client = createClient({ url })
    await client.connect()
    return throughlineOn(redisStore(client, { onUnknown: 'retain' }))
  },

  async 'raw on ioredis'(url) {
    const client = new Redis(url)
    return async (key, _payload, body) => {
      const won = await client.set(key, 'claimed', 'PX', LEASE_MS, 'NX')
      if (won === null) return JSON.parse((await client.get(key)) ?? '')
      const result = body()
      await client.set(key, JSON.stringify(result), 'PX', RETENTION_MS)
      return result
    }
  },

  async 'throughline on ioredis'(url) {
    return throughlineOn(redisStore(new Redis(url), { onUnknown: 'retain' }))
  },

  async '@node-idempotency/core'(url) {
    const storage = new RedisStorageAdapter({ url })
    await storage.connect()
    const idempotency = new Idempotency(storage, { cacheTTLMS: RETENTION_MS })
    return async (key, payload, body) => {
      const request = {
        headers: { 'idempotency-key': key },
        path: '/orders',
        method: 'POST',
        body: { ...payload },
      }
      const replayed = await idempotency.onRequest(request)
      if (replayed !== undefined) return replayed.body
      const result = body()
      await idempotency.onResponse(request, { body: result })
      return result
    }
  },

  async '@aws-lambda-powertools/idempotency'(url) {
    const client = createClient({ url })
    await client.connect()
    const persistenceStore = new CachePersistenceLayer({ client: client as never })
    // Without its validation of payloads: version 2.35 drops the payload's hash when it stores a result in a
    // cache, and then refuses every replay.
    const config = new IdempotencyConfig({
      eventKeyJmesPath: 'key',
      expiresAfterSeconds: RETENTION_MS / 1_000,
    })
    config.registerLambdaContext({ getRemainingTimeInMillis: () => LEASE_MS } as never)
    const createOrder = makeIdempotent(
      async ({ body }: { key: string; payload: Payload; body: () => Result }) => body(),
      { persistenceStore, config },
    )
    return (key, payload, body) => createOrder({ key, payload, body })
  },
}

function throughlineOn(store: ReturnType<typeof redisStore>): PlaceOnce {
  return (key, payload, body) =>
    runOnce(store, { name: 'createOrder', scope: 'customer-1', key, payload }, body)
}
