import type { IdempotencyStore } from 'throughline/idempotency'
import { memoryStore } from 'throughline/idempotency/memory'
import { redisStore } from 'throughline/idempotency/redis'
import { redis } from './redis'

/** Where idempotency records live: Redis when there is one, else this process's memory. */
export function idempotencyStore(): IdempotencyStore {
  const client = redis()
  return client === undefined ? memoryStore() : redisStore(client, { onUnknown: 'retain' })
}
