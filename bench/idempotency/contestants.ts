/** The contestants: each does the same with a key, a small payload and a small result, on the same Redis. */
import { createHash } from 'node:crypto'
import { IdempotencyConfig, makeIdempotent } from '@aws-lambda-powertools/idempotency'
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache'
import { Idempotency } from '@node-idempotency/core'
import { RedisStorageAdapter } from '@node-idempotency/storage-adapter-redis'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { runOnce } from 'throughline/idempotency'
import { redisStore } from 'throughline/idempotency/redis'

/** One way of using a key, on one connection. */
export interface Contestant {
  /** The first use of a key: runs `body` and keeps its result. */
  first(key: string, payload: Payload, body: () => Result): Promise<unknown>
  /**
   * A later use: the result that was kept, or its JSON. `body` is for those that find out only then.
   */
  replay(key: string, payload: Payload, body: () => Result): Promise<unknown>
}

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

const CLAIM_LUA = `if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
return redis.call('GET', KEYS[1])`

const COMPLETE_LUA = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`

/** All but the two named so use node-redis: the peers need it. */
export const CONTESTANTS: Record<string, (url: string) => Promise<Contestant>> = {
  // The limit: two SETs, or a GET whose answer is not even parsed. No hash, fingerprint, fence or history.
  async raw(url) {
    const client = await connect(url)
    return {
      async first(key, _payload, body) {
        const won = await client.set(key, 'claimed', {
          condition: 'NX',
          expiration: { type: 'PX', value: LEASE_MS },
        })
        if (won === null) throw new Error('The key is taken.')
        const result = body()
        await client.set(key, JSON.stringify(result), { expiration: { type: 'PX', value: RETENTION_MS } })
        return result
      },
      replay: (key) => client.get(key),
    }
  },

  // The limit of scripts: claim or find in one command, complete only what is still owned in another.
  async 'raw-lua'(url) {
    const client = await connect(url)
    const claimSha = await client.scriptLoad(CLAIM_LUA)
    const completeSha = await client.scriptLoad(COMPLETE_LUA)
    const claim = (key: string, token: string) =>
      client.evalSha(claimSha, { keys: [key], arguments: [token, String(LEASE_MS)] })
    return {
      async first(key, _payload, body) {
        const token = `claimed ${key}`
        if ((await claim(key, token)) !== null) throw new Error('The key is taken.')
        const result = body()
        const kept = [token, JSON.stringify(result), String(RETENTION_MS)]
        await client.evalSha(completeSha, { keys: [key], arguments: kept })
        return result
      },
      replay: (key) => claim(key, `claimed ${key}`),
    }
  },

  async throughline(url) {
    return throughlineOn(await connect(url))
  },

  // The store alone: what `runOnce` adds is identity, fingerprint, lease timer, codec and telemetry.
  async 'throughline-store'(url) {
    const store = redisStore(await connect(url), { onUnknown: 'retain' })
    const fingerprint = createHash('sha256').update('a payload').digest('hex')
    const claim = (key: string) =>
      store.claim({ key, fingerprint, leaseMs: LEASE_MS, retentionMs: RETENTION_MS })
    return {
      async first(key, _payload, body) {
        const claimed = await claim(key)
        if (claimed.outcome !== 'won') throw new Error(`The claim answered ${claimed.outcome}.`)
        const result = body()
        if (!(await store.complete(claimed.token, JSON.stringify(result)))) throw new Error('Refused.')
        return result
      },
      async replay(key) {
        const claimed = await claim(key)
        return claimed.outcome === 'replay' ? claimed.result : undefined
      },
    }
  },

  async 'raw on ioredis'(url) {
    const client = new Redis(url)
    return {
      async first(key, _payload, body) {
        const won = await client.set(key, 'claimed', 'PX', LEASE_MS, 'NX')
        if (won === null) throw new Error('The key is taken.')
        const result = body()
        await client.set(key, JSON.stringify(result), 'PX', RETENTION_MS)
        return result
      },
      replay: (key) => client.get(key),
    }
  },

  async 'throughline on ioredis'(url) {
    return throughlineOn(new Redis(url))
  },

  async '@node-idempotency/core'(url) {
    // It makes its own client, of the version of node-redis that it depends on.
    const storage = new RedisStorageAdapter({ url })
    await storage.connect()
    const idempotency = new Idempotency(storage, { cacheTTLMS: RETENTION_MS })
    return used(async (key, payload, body) => {
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
    })
  },

  async '@aws-lambda-powertools/idempotency'(url) {
    const persistenceStore = new CachePersistenceLayer({ client: (await connect(url)) as never })
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
    return used((key, payload, body) => createOrder({ key, payload, body }))
  },
}

function throughlineOn(client: Parameters<typeof redisStore>[0]): Contestant {
  const store = redisStore(client, { onUnknown: 'retain' })
  return used((key, payload, body) =>
    runOnce(store, { name: 'createOrder', scope: 'customer-1', key, payload }, body),
  )
}

/** One call for both: it finds out by itself whether the key is new. */
function used(use: Contestant['first']): Contestant {
  return { first: use, replay: use }
}

async function connect(url: string) {
  return createClient({ url }).connect()
}
