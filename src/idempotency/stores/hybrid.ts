/**
 * A KV in front, a receipt in the transaction behind. The KV answers repeats without a connection to the
 * database, and keeps the lease; the receipt decides. A KV that is out, or has lost its records, costs time
 * and not correctness.
 *
 *   KV answers        then
 *   won, takeover     the database decides: run, or the receipt's result, which heals the KV
 *   replay            that is the result
 *   busy              refused
 *   anything else     the database decides: the KV may not have heard that a run was rolled back
 */
import { diag } from '@opentelemetry/api'
import {
  type Claim,
  type ClaimRequest,
  type IdempotencyStore,
  isOwned,
  type OwnedClaim,
  type TransactionalStore,
} from '../contract.js'
import { keepLease } from '../lease.js'
import { claimOrWait } from '../waiting.js'

/**
 * A store on two.
 *
 * @param kv answers first: `redisStore(…)`, `upstashStore(…)`
 * @param database decides: `postgresStore(…)` in its `transaction` mode
 * @throws {TypeError} for a store that cannot have the part.
 * @example hybridStore(redisStore(redis, { onUnknown: 'rerun' }), postgresStore(pool))
 */
export function hybridStore<Tx>(
  kv: IdempotencyStore,
  database: TransactionalStore<Tx>,
): TransactionalStore<Tx> {
  if (typeof kv?.claim !== 'function') {
    throw new TypeError('hybridStore: "kv" must be a store, such as redisStore(client, { onUnknown }).')
  }
  if (typeof database?.transact !== 'function') {
    throw new TypeError(
      'hybridStore: "database" must be a store in the transaction, such as postgresStore(pool).',
    )
  }
  return {
    name: 'hybrid',
    guarantee: 'exactly-once-tx',
    async transact(request, waitMs, body) {
      const front = await claimInFront(kv, request, waitMs)
      if (front !== undefined && !isOwned(front)) return { isRun: false, claim: front }
      const endLease = front === undefined ? () => {} : keepLease(kv, front.token, request.leaseMs, () => {})
      let result: string | undefined
      try {
        const end = await database.transact(request, waitMs, async (receipt, tx) => {
          const ran = await body(front ?? receipt, tx)
          result = ran.result
          return ran
        })
        if (!end.isRun) result = end.claim.outcome === 'replay' ? end.claim.result : undefined
        return end
      } catch (error) {
        // Rolled back, or not known to be committed: either way the next use asks the database.
        result = undefined
        throw error
      } finally {
        endLease()
        if (front !== undefined) await tell(kv, front, result)
      }
    },
    read: (key) => database.read(key),
  }
}

async function claimInFront(
  kv: IdempotencyStore,
  request: ClaimRequest,
  waitMs: number | undefined,
): Promise<Claim | undefined> {
  try {
    const claim = await claimOrWait(kv, request, waitMs)
    return claim.outcome === 'unknown' || claim.outcome === 'mismatch' ? undefined : claim
  } catch (cause) {
    diag.warn(`throughline: the ${kv.name} store did not answer; the database decides alone.`, cause)
    return undefined
  }
}

async function tell(kv: IdempotencyStore, { token }: OwnedClaim, result: string | undefined): Promise<void> {
  try {
    await (result === undefined ? kv.abort(token) : kv.complete(token, result))
  } catch (cause) {
    diag.warn(`throughline: the ${kv.name} store did not keep a result; the database has it.`, cause)
  }
}
