/**
 * Records in Postgres, through the client you have: pg, postgres.js, Drizzle, Prisma, Kysely or PGlite.
 *
 * Two modes. In the caller's transaction (default) the record, the app's writes and the result commit
 * together: exactly once. In `lease` mode the record is apart from the app's writes, as in a KV: nothing is
 * held open while the body runs, and the promise is a KV's.
 */
import { ThroughlineError } from '../../errors.js'
import { logger } from '../../logging/index.js'
import {
  type Claim,
  type ClaimRequest,
  type ClaimToken,
  type IdempotencyRecord,
  type IdempotencyStore,
  isOwned,
  type OwnedClaim,
  type Transacted,
  type TransactionalStore,
} from '../contract.js'
import { type GuaranteeOf, guaranteeOf, type OnUnknown, onUnknownOf } from '../on-unknown.js'
import { createToken, keyOfToken } from '../token.js'
import {
  type Database,
  databaseOf,
  hasSqlState,
  type PostgresDatabase,
  type RunStatement,
  type TransactionOf,
} from './postgres-client.js'
import { DEFAULT_TABLE, tableOf } from './postgres-migrations.js'
import { type PostgresStatements, statementsOf } from './postgres-sql.js'

export type { PostgresDatabase, TransactionOf } from './postgres-client.js'
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
const UNDEFINED_TABLE = '42P01'

/** Claims that lost to one that committed meanwhile, under `repeatable read` or stricter: the next sees it. */
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
  const besideClaim = onceInAWhile(database, records, options)
  return options.mode === 'lease'
    ? leaseStore(database, records, besideClaim, onUnknownOf('postgresStore', options.onUnknown))
    : transactionStore(database, records, besideClaim)
}

function transactionStore(
  database: Database<unknown>,
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
        const { value, result } = await body(claim, tx)
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
  { run }: Database<unknown>,
  records: Records,
  besideClaim: () => void,
  onUnknown: OnUnknown,
): IdempotencyStore {
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

type Verb = 'complete' | 'abort' | 'renew' | 'markEffects' | 'markUnknown'

/** The statements, with their answers read. */
interface Records {
  statements: PostgresStatements
  table: string
  clock(): string | null
  /** @param waitMs within a transaction: how long another one that holds the key is waited for */
  claim(run: RunStatement, request: ClaimRequest, onUnknown: OnUnknown, waitMs?: number): Promise<Claim>
  settle(run: RunStatement, verb: Verb, token: ClaimToken, result?: string): Promise<boolean>
  read(run: RunStatement, key: string): Promise<IdempotencyRecord | undefined>
}

function recordsOf({ table: named = DEFAULT_TABLE, now }: CommonOptions): Records {
  const table = tableOf(named)
  const statements = statementsOf(table)
  const clock = () => (now === undefined ? null : String(now()))
  return {
    statements,
    table,
    clock,
    async claim(
      run,
      { key, fingerprint, leaseMs, retentionMs, origin, isRepeat = false },
      onUnknown,
      waitMs,
    ) {
      const parameters = [
        key,
        createToken(key),
        fingerprint,
        String(leaseMs),
        String(retentionMs),
        origin?.traceId ?? null,
        origin?.spanId ?? null,
        origin?.correlationId ?? null,
        isRepeat ? 'repeat' : 'use',
        clock(),
        onUnknown,
      ]
      try {
        const answer =
          waitMs === undefined
            ? await run(statements.claim, parameters)
            : await run(statements.claimWithin, [...parameters, String(waitMs)])
        return claimOf(JSON.parse(answer ?? '{}'))
      } catch (error) {
        throw hasSqlState(error, UNDEFINED_TABLE) ? tableMissingError(table, error) : error
      }
    },
    async settle(run, verb, token, result) {
      // As JSON: a text of Postgres holds no U+0000 and no half of a surrogate pair.
      const written = result === undefined ? null : JSON.stringify(result)
      const answer = await run(statements.settle, [keyOfToken(token), token, verb, written, clock()])
      return answer === 'accepted'
    },
    async read(run, key) {
      const answer = await run(statements.read, [key, clock()])
      return answer === undefined ? undefined : recordOf(JSON.parse(answer))
    },
  }
}

/** Sweeps, and at the first call looks at the server. In the background: a claim waits for neither. */
function onceInAWhile(
  { run }: Database<unknown>,
  { statements, table, clock }: Records,
  { sweepEveryMs = 60_000 }: CommonOptions,
): () => void {
  if (!Number.isSafeInteger(sweepEveryMs) || sweepEveryMs < 0) {
    throw new TypeError(
      `postgresStore: "sweepEveryMs" must be a whole number of milliseconds, or 0, received ${sweepEveryMs}.`,
    )
  }
  let hasLooked = false
  let nextSweepMs = 0
  const look = async () => {
    const { hasTable, isReplica } = JSON.parse((await run(statements.look, [])) ?? '{}')
    if (hasTable === false) logger.warn(`throughline: ${tableMissingError(table).message}`)
    if (isReplica === true) {
      logger.warn(
        'throughline: this Postgres is a replica, which refuses claims. Connect postgresStore to the primary.',
      )
    }
  }
  return () => {
    // Not when the store is made: a build makes it too, and should not open a connection.
    if (!hasLooked) look().catch(() => {})
    hasLooked = true
    if (sweepEveryMs === 0 || performance.now() < nextSweepMs) return
    nextSweepMs = performance.now() + sweepEveryMs
    // Whatever is wrong, the claim beside it says so.
    run(statements.sweep, [clock()]).catch(() => {})
  }
}

function tableMissingError(table: string, cause?: unknown): ThroughlineError {
  return new ThroughlineError('STORE_TABLE_MISSING', `The table "${table}" is not there.`, {
    why: 'postgresStore keeps its records in it, and no migration has made it.',
    fix: 'Call migrate(db) from throughline/idempotency/postgres once per deployment, or apply migrations/*.sql of the package.',
    cause,
  })
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

/** The JSON that `claim` answers. */
interface ClaimAnswer {
  outcome: Claim['outcome']
  token: string
  fence: number
  hits: number
  firstUsedAt: number
  usedAt: number
  traceId: string | null
  spanId: string | null
  correlationId: string | null
  result: string | null
}

function claimOf(answer: ClaimAnswer): Claim {
  const { outcome, token, fence, hits, firstUsedAt, usedAt, result } = answer
  const history = { fence, hits, firstUsedAt, usedAt, origin: originOf(answer) }
  if (outcome === 'won' || outcome === 'takeover') return { ...history, outcome, token }
  if (outcome === 'replay') return { ...history, outcome, result: result ?? '' }
  if (outcome === 'busy' || outcome === 'mismatch' || outcome === 'unknown') return { ...history, outcome }
  throw new Error(`The store answered a claim with the outcome "${outcome}".`)
}

/** The JSON that `read` answers. */
type RecordAnswer = Omit<IdempotencyRecord, 'origin' | 'result'> &
  Pick<ClaimAnswer, 'traceId' | 'spanId' | 'correlationId' | 'result'>

function recordOf(answer: RecordAnswer): IdempotencyRecord {
  const {
    traceId: _traceId,
    spanId: _spanId,
    correlationId: _correlationId,
    result,
    uses,
    ...record
  } = answer
  return {
    ...record,
    uses: uses.map(({ at, outcome, traceId }) => ({ at, outcome, traceId: traceId ?? '' })),
    origin: originOf(answer),
    result: result ?? undefined,
  }
}

function originOf({
  traceId,
  spanId,
  correlationId,
}: Pick<ClaimAnswer, 'traceId' | 'spanId' | 'correlationId'>): IdempotencyRecord['origin'] {
  if (traceId === null) return undefined
  return { traceId, spanId: spanId ?? '', correlationId: correlationId ?? '' }
}
