/** The transactions that the code running now is in, so that one in another is neither opened nor missed by accident. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { processWide } from '../context/index.js'

/** A transaction under way. */
export interface ActiveTransaction {
  /** The client that it was begun on. */
  client: unknown
  /** What the client hands out for it. */
  tx: unknown
  /** Who began it: `transaction()`, or a guarded run or a message's handler, whose being done commits with it. */
  owner: 'transaction' | 'idempotent run' | 'message'
  /** The one around it, on another client. */
  outer: ActiveTransaction | undefined
}

const storage = processWide(
  'postgres.transactions',
  () => new AsyncLocalStorage<ActiveTransaction | undefined>(),
)

/** Runs `body` in the transaction. */
export function inTransaction<T>(transaction: Omit<ActiveTransaction, 'outer'>, body: () => T): T {
  return storage.run({ ...transaction, outer: storage.getStore() }, body)
}

/** The transaction of that client which the code running now is in. */
export function activeTransactionOf(client: unknown): ActiveTransaction | undefined {
  let active = storage.getStore()
  while (active !== undefined && active.client !== client) active = active.outer
  return active
}

export function outsideTransactions<T>(body: () => T): T {
  return storage.run(undefined, body)
}
