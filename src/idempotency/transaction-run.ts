/** A run in the caller's transaction: the claim, the body's writes and the result commit together. */
import { type BodyEnd, endOf, keptText, resultOf } from './body-end.js'
import type { OwnedClaim, Transacted, TransactionalStore } from './contract.js'
import { openFlight } from './flights.js'
import { storeUnavailableError } from './refusals.js'
import type { GuardedUse, TransactionRun } from './run.js'
import { landingOf, recordClaim } from './waiting.js'

/**
 * Uses the key in a transaction, and runs the body in it when the key is won. A body that throws rolls all
 * of it back, but for what `use.thrown` keeps: that is a result, and commits.
 *
 * A run of this process is waited for without a connection, or refused without one.
 *
 * @param onClaim told of a claim that runs, before the body does
 */
export async function runInTransaction<Tx, T>(
  store: TransactionalStore<Tx>,
  use: GuardedUse,
  waitMs: number | undefined,
  onClaim: (claim: OwnedClaim) => void,
  body: (run: TransactionRun<Tx>) => T | Promise<T>,
): Promise<Transacted<BodyEnd<T>>> {
  const leftMs = await landingOf(store, use, waitMs)
  if (leftMs === 0) return { isRun: false, claim: { outcome: 'busy' } }

  const startedMs = performance.now()
  let hasRun = false
  let endFlight: (result?: string) => void = () => {}
  let kept: string | undefined
  try {
    const end = await store.transact(use, leftMs, async (claim, tx) => {
      hasRun = true
      recordClaim(store, startedMs, claim.outcome)
      onClaim(claim)
      endFlight = openFlight(store, use)
      const ending = await endOf(() => body(runOf(claim, tx, use)))
      const result = resultOf(ending, use)
      // Rejecting rolls back, the claim too: the next use of the key runs.
      if (result === undefined && ending.isThrown) throw ending.error
      kept = keptText(result ?? { kind: 'returned', value: undefined }, use)
      return { value: ending, result: kept }
    })
    if (!end.isRun) recordClaim(store, startedMs, end.claim.outcome)
    return end
  } catch (cause) {
    kept = undefined
    if (hasRun) throw cause
    recordClaim(store, startedMs, 'error')
    throw storeUnavailableError(use, store.name, cause)
  } finally {
    endFlight(kept)
  }
}

function runOf<Tx>({ outcome, hits }: OwnedClaim, tx: Tx, use: GuardedUse): TransactionRun<Tx> {
  return { outcome, isReplay: false, hits, correlationId: use.origin?.correlationId, tx }
}
