/** What the types of the outbox promise: `tsc -p tsconfig.test.json` fails where one does not. Nothing runs. */
import type { PGlite } from '@electric-sql/pglite'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import type { Kysely, Transaction } from 'kysely'
import type { Pool, PoolClient } from 'pg'
import type { Sql, TransactionSql } from 'postgres'
import { describe, expectTypeOf, it } from 'vitest'
import { z } from 'zod'
import { createOutbox, defineTopics, type Outbox } from '../../src/outbox/index.ts'
import type { PostgresDatabase } from '../../src/postgres/database.ts'

const topics = defineTopics({
  'payment.charge': z.object({ orderId: z.string(), cents: z.coerce.number() }),
  'email.receipt': z.object({ orderId: z.string() }),
})
type Topics = typeof topics

describe('the types of an outbox', () => {
  it('know the topics, and what each takes', () => {
    const check = async (outbox: Outbox<Pool, Topics>, tx: PoolClient) => {
      // What goes in is what the schema takes, which it may turn into something else.
      await outbox.send(tx, 'payment.charge', { orderId: 'a', cents: '100' })
      await outbox.send(tx, 'email.receipt', { orderId: 'a' }, { key: 'a', orderKey: 'b', startAfter: 5 })
      // @ts-expect-error: no such topic
      await outbox.send(tx, 'payment.refund', { orderId: 'a' })
      // @ts-expect-error: a field is missing
      await outbox.send(tx, 'payment.charge', { cents: '100' })
      // @ts-expect-error: a field has another type
      await outbox.send(tx, 'email.receipt', { orderId: 7 })
      // @ts-expect-error: the transaction of another client
      await outbox.send({} as TransactionSql, 'email.receipt', { orderId: 'a' })
    }
    expectTypeOf(check).toBeFunction()
  })

  it('know what a handler is given', () => {
    const check = (outbox: Outbox<Pool, Topics>) =>
      outbox.work({
        'payment.charge': async (payload, { complete, attempt, messageId, signal }) => {
          expectTypeOf(payload).toEqualTypeOf<{ orderId: string; cents: number }>()
          expectTypeOf(attempt).toEqualTypeOf<number>()
          expectTypeOf(messageId).toEqualTypeOf<string>()
          expectTypeOf(signal).toEqualTypeOf<AbortSignal>()
          expectTypeOf(await complete(async () => 7)).toEqualTypeOf<number>()
        },
        // @ts-expect-error: no such topic
        'payment.refund': async () => {},
      })
    expectTypeOf(check).toBeFunction()
  })

  it('know the topics that may keep an order, and how', () => {
    const check = (db: Pool) => {
      createOutbox({ db, topics, order: { 'payment.charge': 'block', 'email.receipt': 'skip' } })
      // @ts-expect-error: no such topic
      createOutbox({ db, topics, order: { 'payment.refund': 'block' } })
      // @ts-expect-error: no such policy
      createOutbox({ db, topics, order: { 'payment.charge': 'wait' } })
    }
    expectTypeOf(check).toBeFunction()
  })

  it('give each client its own transaction', () => {
    type TxOf<Db extends PostgresDatabase> = Parameters<Outbox<Db, Topics>['send']>[0]
    expectTypeOf<TxOf<Pool>>().toEqualTypeOf<PoolClient>()
    expectTypeOf<TxOf<Sql>>().toEqualTypeOf<TransactionSql>()
    expectTypeOf<TxOf<Kysely<{ orders: { id: string } }>>>().toEqualTypeOf<
      Transaction<{ orders: { id: string } }>
    >()
    expectTypeOf<TxOf<NodePgDatabase>>().toHaveProperty('execute')
    expectTypeOf<TxOf<PGlite>>().toHaveProperty('query')
  })
})
