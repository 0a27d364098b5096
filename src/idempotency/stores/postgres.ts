/**
 * Records in Postgres, through the client you have: pg, postgres.js, Drizzle, Prisma, Kysely or PGlite.
 *
 * Two modes. In the caller's transaction (default) the record, the app's writes and the result commit
 * together: exactly once. In `lease` mode the record is apart from the app's writes, as in a KV: nothing is
 * held open while the body runs, and the promise is a KV's.
 */
import { ThroughlineError } from '../../errors.js'
import { inTransaction } from '../../postgres/active-transaction.js'
import {
  type Database,
  databaseOf,
  hasSqlState,
  type PostgresDatabase,
  type RunStatement,
  type TransactionOf,
} from '../../postgres/database.js'
import {
  type Claim,
  type ClaimRequest,
  type IdempotencyStore,
  isOwned,
  type OwnedClaim,
  type Transacted,
  type TransactionalStore,
} from '../contract.js'
import { type GuaranteeOf, guaranteeOf, type OnUnknown, onUnknownOf } from '../on-unknown.js'
import { type Records, recordsOf } from './postgres-records.js'
import { upkeepOf } from './postgres-upkeep.js'

export type { PostgresDatabase, TransactionOf } from '../../postgres/database.js'
export { DEFAULT_TABLE, type Migration, migrate, migrationsOf } from './postgres-migrations.js'

/** How a Postgres store is set up, in either mode. */
interface CommonOptions {
  /** The table, made by `migrate`. Default `throughline_idempotency`. */
  table?: string
  /** Clock, in epoch milliseconds, for tests. Default: the server's own, which all callers share. */
  now?: () => number
  /**
   * Removes records whose retention is over, at most once in so many milliseconds per process, beside a
   * claim. Default 60,000; 0 turns it off, for those who delete `WHERE expires_at <= now()` themselves.
   */
  sweepEveryMs?: number
}

/** The record in the caller's transaction. */
export interface PostgresTransactionOptions extends CommonOptions {
  mode?: 'transaction'
}

/** The record apart from the caller's writes. */
export interface PostgresLeaseOptions<Choice extends OnUnknown = OnUnknown> extends CommonOptions {
  mode: 'lease'
  /** What a repeat does when an earlier run may have had effects: `retain` refuses it, `rerun` runs again. */
  onUnknown: Choice
}

/** What SQLSTATE says of a claim (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const LOCK_NOT_AVAILABLE = '55P03'
const SERIALIZATION_FAILURE = '40001'

/** For what lost to another that committed meanwhile, under `repeatable read` or stricter: the next try sees it. */
const CLAIM_RETRIES = 10

/** Long enough for a replay to count its hit before another, short against any run. */
const REFUSE_AFTER_MS = 50

/**
 * A store in the caller's transaction: `run.tx` is the transaction of your client, and what the body writes
 * through it commits with the record. What the body does elsewhere is not covered: a write through the pool,
 * a call to a payment provider.
 *
 * A run holds one connection while it lasts, and so does each caller of another process that waits for it.
 *
 * @throws {TypeError} for a client that is none of these, or an option out of range.
 * @example
 * const store = postgresStore(new Pool({ connectionString: process.env.DATABASE_URL }))
 * await runOnce(store, { name: 'createOrder', scope: userId, key, payload: form }, async ({ tx }) => {
 *   await tx.query('INSERT INTO orders …')
 * })
 */
export function postgresStore<Db extends PostgresDatabase>(
  db: Db,
  options?: PostgresTransactionOptions,
): TransactionalStore<TransactionOf<Db>>
/** A store apart from the caller's writes: nothing is held open while the body runs, and the promise is a KV's. */
export function postgresStore<Choice extends OnUnknown>(
  db: PostgresDatabase,
  options: PostgresLeaseOptions<Choice>,
): IdempotencyStore<GuaranteeOf<Choice>>
export function postgresStore(
  db: PostgresDatabase,
  options: PostgresTransactionOptions | PostgresLeaseOptions = {},
): TransactionalStore<unknown> | IdempotencyStore {
  const database = databaseOf('postgresStore', db)
  const records = recordsOf(options)
  const besideClaim = upkeepOf(database, records, options.sweepEveryMs ?? 60_000)
  return options.mode === 'lease'
    ? leaseStore(database, records, besideClaim, onUnknownOf('postgresStore', options.onUnknown))
    : transactionStore(database, db, records, besideClaim)
}

function transactionStore(
  database: Database<unknown>,
  client: PostgresDatabase,
  records: Records,
  besideClaim: () => void,
): TransactionalStore<unknown> {
  async function attempt<T>(
    request: ClaimRequest,
    waitMs: number | undefined,
    body: (claim: OwnedClaim, tx: unknown) => Promise<{ value: T; result: string }>,
    retriesLeft: number,
  ): Promise<Transacted<T>> {
    // Set while nothing has run: another holds the key, or another changed it under a stricter isolation.
    let whyNotClaimed: unknown
    try {
      return await database.transaction(async (tx, run) => {
        let claim: Claim
        try {
          claim = await records.claim(run, request, 'retain', waitMs ?? REFUSE_AFTER_MS)
        } catch (error) {
          whyNotClaimed = error
          throw error
        }
        if (!isOwned(claim)) return { isRun: false, claim }
        const active = { client, tx, owner: 'idempotent run' as const }
        const { value, result } = await inTransaction(active, () => body(claim, tx))
        if (!(await records.settle(run, 'complete', claim.token, result))) throw outlivedError()
        return { isRun: true, value }
      }, request.leaseMs)
    } catch (error) {
      if (hasSqlState(whyNotClaimed, LOCK_NOT_AVAILABLE)) return { isRun: false, claim: { outcome: 'busy' } }
      if (hasSqlState(whyNotClaimed, SERIALIZATION_FAILURE) && retriesLeft > 0) {
        return attempt(request, waitMs, body, retriesLeft - 1)
      }
      throw error
    }
  }
  return {
    name: 'postgres',
    guarantee: 'exactly-once-tx',
    transact(request, waitMs, body) {
      besideClaim()
      return attempt(request, waitMs, body, CLAIM_RETRIES)
    },
    read: (key) => records.read(database.run, key),
  }
}

function leaseStore(
  database: Database<unknown>,
  records: Records,
  besideClaim: () => void,
  onUnknown: OnUnknown,
): IdempotencyStore {
  // The same parameters, and so the same token: sent again, it is the same claim or verb.
  const run: RunStatement = async (text, parameters) => {
    for (let retriesLeft = CLAIM_RETRIES; ; retriesLeft -= 1) {
      try {
        return await database.run(text, parameters)
      } catch (error) {
        if (retriesLeft === 0 || !hasSqlState(error, SERIALIZATION_FAILURE)) throw error
      }
    }
  }
  return {
    name: 'postgres',
    guarantee: guaranteeOf(onUnknown),
    claim(request) {
      besideClaim()
      return records.claim(run, request, onUnknown)
    },
    complete: (token, result) => records.settle(run, 'complete', token, result),
    abort: (token) => records.settle(run, 'abort', token),
    renew: (token) => records.settle(run, 'renew', token),
    markEffects: (token) => records.settle(run, 'markEffects', token),
    markUnknown: (token) => records.settle(run, 'markUnknown', token),
    read: (key) => records.read(run, key),
  }
}

function outlivedError(): ThroughlineError {
  return new ThroughlineError(
    'IDEMPOTENCY_LEASE_LOST',
    'A run outlived its own record and was rolled back.',
    {
      why: 'It lasted longer than leaseMs and retentionMs together, so a repeat would not have found it.',
      fix: 'Raise retentionMs; nothing was written, and the same key may be sent again.',
    },
  )
}
