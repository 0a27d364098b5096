import type { PoolClient } from 'pg'
import type { TransactionalStore } from 'throughline/idempotency'
import { hybridStore } from 'throughline/idempotency/hybrid'
import { postgresStore } from 'throughline/idempotency/postgres'
import { redisStore } from 'throughline/idempotency/redis'
import { database } from './database.ts'
import { redis } from './redis.ts'

/**
 * Where idempotency records live: beside the orders, in one transaction with them. A Redis in front answers
 * repeats without a connection to the database; should it lose its records, the database still knows.
 */
export function idempotencyStore(): TransactionalStore<PoolClient> {
  const receipts = postgresStore(database())
  const client = redis()
  return client === undefined ? receipts : hybridStore(redisStore(client, { onUnknown: 'rerun' }), receipts)
}
