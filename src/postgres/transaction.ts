/**
 * One transaction for all that a mutation writes, on the client you have: pg, postgres.js, Drizzle, Prisma, Kysely or
 * PGlite.
 */
import { activeTransactionOf, inTransaction } from './active-transaction.js'
import { databaseOf, type PostgresDatabase, type TransactionOf } from './database.js'
import {
  DEFAULT_MAX_ATTEMPTS,
  nestedError,
  runTransaction,
  type TransactionOptions,
} from './run-transaction.js'

export type { PostgresDatabase, TransactionOf } from './database.js'
export type { TransactionOptions } from './run-transaction.js'

/**
 * Runs `body` in a transaction: commits when it resolves, rolls back when it rejects. A serialization failure or a
 * deadlock runs the whole body again, after a wait of random length: what it does outside `tx` it may do twice.
 *
 * In a guarded run on the same client, and where a message's handler completes it, it is the run's own transaction, and
 * commits with the run's being done.
 *
 * @throws {ThroughlineError} `TRANSACTION_NESTED` in the body of another of the same client: hand on its `tx`.
 * @throws {TypeError} for a client that is none of these, or an option out of range.
 * @example
 * const order = await transaction(db, async (tx) => {
 *   const order = await insertOrder(tx, form)
 *   await outbox.send(tx, 'email.receipt', { orderId: order.id })
 *   return order
 * })
 */
export async function transaction<Db extends PostgresDatabase, T>(
  db: Db,
  body: (tx: TransactionOf<Db>) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  const database = databaseOf('transaction', db)
  const { maxAttempts = DEFAULT_MAX_ATTEMPTS } = options
  if (!Number.isInteger(maxAttempts) || maxAttempts < 1)
    throw new TypeError(`transaction: "maxAttempts" must be a whole number above 0, received ${maxAttempts}.`)
  const active = activeTransactionOf(db)
  if (active?.owner === 'transaction') throw nestedError()
  if (active !== undefined) return body(active.tx as TransactionOf<Db>)
  return runTransaction(
    database,
    (tx) => inTransaction({ client: db, tx, owner: 'transaction' }, () => body(tx as TransactionOf<Db>)),
    options,
  )
}
