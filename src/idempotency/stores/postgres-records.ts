/** The statements of `postgres-sql.ts`, run on any client, with their answers read. */
import { ThroughlineError } from '../../errors.js'
import { hasSqlState, type RunStatement } from '../../postgres/database.js'
import type { Claim, ClaimRequest, ClaimToken, IdempotencyRecord } from '../contract.js'
import type { OnUnknown } from '../on-unknown.js'
import { createToken, keyOfToken } from '../token.js'
import { DEFAULT_TABLE, tableOf } from './postgres-migrations.js'
import { type PostgresStatements, statementsOf } from './postgres-sql.js'

/** SQLSTATE of a table that is not there (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const UNDEFINED_TABLE = '42P01'

type Verb = 'complete' | 'abort' | 'renew' | 'markEffects' | 'markUnknown'

/** The records of one table. */
export interface Records {
  statements: PostgresStatements
  table: string
  clock(): string | null
  /** @param waitMs within a transaction: how long another one that holds the key is waited for */
  claim(run: RunStatement, request: ClaimRequest, onUnknown: OnUnknown, waitMs?: number): Promise<Claim>
  settle(run: RunStatement, verb: Verb, token: ClaimToken, result?: string): Promise<boolean>
  read(run: RunStatement, key: string): Promise<IdempotencyRecord | undefined>
}

export function recordsOf({
  table: named = DEFAULT_TABLE,
  now,
}: {
  table?: string
  now?: () => number
}): Records {
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

export function tableMissingError(table: string, cause?: unknown): ThroughlineError {
  return new ThroughlineError('STORE_TABLE_MISSING', `The table "${table}" is not there.`, {
    why: 'postgresStore keeps its records in it, and no migration has made it.',
    fix: 'Call migrate(db) from throughline/idempotency/postgres once per deployment, or apply migrations/*.sql of the package.',
    cause,
  })
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
