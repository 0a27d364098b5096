/** Records in Redis or Valkey, standalone or cluster, through the client you have: ioredis or node-redis. */
import type { IdempotencyStore } from '../contract.js'
import type { GuaranteeOf, OnUnknown } from '../on-unknown.js'
import { type RedisClient, redisCallsOf } from './redis-client.js'
import { checkServer } from './redis-server-check.js'
import { type ScriptStoreOptions, scriptStore } from './script-store.js'

export type { IoredisLike, NodeRedisLike, RedisClient } from './redis-client.js'

/** How a Redis store is set up. */
export type RedisStoreOptions<Choice extends OnUnknown = OnUnknown> = ScriptStoreOptions<Choice>

/**
 * A store on a client that is connected, or connects by itself.
 *
 * At most once for what follows `await run.markEffects()`, as long as Redis keeps its writes: a failover to a
 * replica that lags, or eviction (`maxmemory-policy` other than `noeviction`), loses records and with them
 * the promise; a server that evicts, or is a replica, is warned about once. Give the client a command timeout: without one a server that is down is waited for.
 *
 * @throws {TypeError} for a client that is neither of ioredis nor of node-redis.
 * @example redisStore(new Redis(process.env.REDIS_URL, { commandTimeout: 2_000 }), { onUnknown: 'retain' })
 */
export function redisStore<Choice extends OnUnknown>(
  client: RedisClient,
  options: RedisStoreOptions<Choice>,
): IdempotencyStore<GuaranteeOf<Choice>> {
  const store = scriptStore('redis', redisCallsOf(client), options)
  return {
    ...store,
    claim(request) {
      // Not when the store is made: a build makes it too, and should not open a connection.
      checkServer(client)
      return store.claim(request)
    },
  }
}
