/** What the types promise; `tsc` checks them, and vitest counts them. */
import type { PGlite, Transaction as PgliteTransaction } from '@electric-sql/pglite'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { Redis } from 'ioredis'
import type { Kysely, Transaction as KyselyTransaction } from 'kysely'
import type pg from 'pg'
import type postgres from 'postgres'
import { describe, expectTypeOf, it } from 'vitest'
import type { IdempotencyStore, Run, RunOf, TransactionalStore } from '../../src/idempotency/index.ts'
import { runOnce } from '../../src/idempotency/index.ts'
import { hybridStore } from '../../src/idempotency/stores/hybrid.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { postgresStore } from '../../src/idempotency/stores/postgres.ts'
import { redisStore } from '../../src/idempotency/stores/redis.ts'
import { idempotentAction } from '../../src/next/idempotent-action.ts'
import { idempotentRoute } from '../../src/next/idempotent-route.ts'

interface Tables {
  orders: { id: number }
}

interface Order {
  key: string
  item: string
}

// Types alone: nothing below is ever called.
declare const redis: Redis
declare const pool: pg.Pool
declare const sql: postgres.Sql
declare const drizzle: NodePgDatabase
declare const kysely: Kysely<Tables>
declare const pglite: PGlite
const never = (_typed: () => unknown) => {}

describe('the type of a store', () => {
  it('says its guarantee, by the choice of onUnknown', () => {
    never(() => {
      expectTypeOf(redisStore(redis, { onUnknown: 'retain' })).toEqualTypeOf<
        IdempotencyStore<'at-most-once'>
      >()
      expectTypeOf(redisStore(redis, { onUnknown: 'rerun' })).toEqualTypeOf<
        IdempotencyStore<'at-least-once'>
      >()
      expectTypeOf(
        postgresStore(pool, { mode: 'lease', onUnknown: 'rerun' }).guarantee,
      ).toEqualTypeOf<'at-least-once'>()
      expectTypeOf(postgresStore(pool).guarantee).toEqualTypeOf<'exactly-once-tx'>()
      expectTypeOf(memoryStore().guarantee).toEqualTypeOf<'at-most-once'>()
    })
  })

  it('makes the caller of a KV alone choose what becomes of an unknown run', () => {
    never(() => {
      // @ts-expect-error no choice
      redisStore(redis)
      // @ts-expect-error no choice
      redisStore(redis, { prefix: 'shop:' })
      // @ts-expect-error no choice
      postgresStore(pool, { mode: 'lease' })
    })
  })

  it("hands out the client's own transaction", () => {
    never(() => {
      expectTypeOf(postgresStore(pool)).toEqualTypeOf<TransactionalStore<pg.PoolClient>>()
      expectTypeOf(postgresStore(sql)).toEqualTypeOf<TransactionalStore<postgres.TransactionSql>>()
      expectTypeOf(postgresStore(kysely)).toEqualTypeOf<TransactionalStore<KyselyTransaction<Tables>>>()
      expectTypeOf(postgresStore(pglite)).toEqualTypeOf<TransactionalStore<PgliteTransaction>>()
      runOnce(postgresStore(drizzle), { name: 'n', scope: 's', key: 'k', payload: 1 }, async ({ tx }) => {
        expectTypeOf(tx.select).toBeFunction()
        expectTypeOf(tx.rollback).toBeFunction()
      })
      const hybrid = hybridStore(redisStore(redis, { onUnknown: 'rerun' }), postgresStore(pool))
      expectTypeOf(hybrid).toEqualTypeOf<TransactionalStore<pg.PoolClient>>()
      // @ts-expect-error a store apart is not in the transaction
      hybridStore(memoryStore(), memoryStore())
    })
  })
})

describe('the type of a run', () => {
  it('has a transaction, or effects to mark, by the store', () => {
    never(() => {
      expectTypeOf<RunOf<IdempotencyStore>>().toEqualTypeOf<Run>()
      expectTypeOf<RunOf<TransactionalStore<string>>['tx']>().toEqualTypeOf<string>()
      runOnce(postgresStore(pool), { name: 'n', scope: 's', key: 'k', payload: 1 }, (run) => {
        // @ts-expect-error a rollback undoes what is done in the transaction
        run.markEffects()
      })
    })
  })

  it('reaches actions and routes, with their arguments as the body says', () => {
    never(() => {
      const action = idempotentAction(
        'createOrder',
        { store: postgresStore(pool), scope: () => 'ann', key: (order) => order.key },
        async ({ tx, log }, order: Order) => {
          expectTypeOf(tx).toEqualTypeOf<pg.PoolClient>()
          log.info('typed')
          return order.item
        },
      )
      expectTypeOf(action).toEqualTypeOf<(order: Order) => Promise<string>>()
      idempotentRoute('createPayment', { store: postgresStore(sql), scope: 'shop' }, async ({ tx }) => {
        expectTypeOf(tx).toEqualTypeOf<postgres.TransactionSql>()
        return new Response()
      })
    })
  })

  it('cannot go on without its database', () => {
    never(() => {
      const use = { name: 'n', scope: 's', key: 'k', payload: 1 }
      runOnce(memoryStore(), { ...use, outage: 'open' }, () => 1)
      // @ts-expect-error the store is the database
      runOnce(postgresStore(pool), { ...use, outage: 'open' }, () => 1)
    })
  })
})
