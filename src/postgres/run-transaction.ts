/**
 * A transaction under way: its span, and its body again when another came between.
 *
 *   begin ──► body ──► commit          committed
 *     ▲        │         │
 *     │        └────┬────┘
 *     │             ▼ throws
 *     │         rollback ──► thrown    rolled back
 *     └──────────── │ 40001 or 40P01, and tries are left
 *          backoff ◄┘
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Span, SpanStatusCode, trace } from '@opentelemetry/api'
import { markSends, type SendsMark } from '../context/active-run.js'
import { ThroughlineError } from '../errors.js'
import { ATTRIBUTE, EVENT, SCOPE } from '../telemetry/names.js'
import { type Database, hasSqlState } from './database.js'

/** How a transaction is run. */
export interface TransactionOptions {
  /** Name of its span, of low cardinality: `transaction <name>`. Default none. */
  name?: string
  /** Default the database's own, which is `read committed` unless it was configured. */
  isolation?: 'read committed' | 'repeatable read' | 'serializable'
  /** How often the body may run in all, when the server says that another transaction came between. Default 5. */
  maxAttempts?: number
  /** The longest that the client lets it last, in milliseconds, where it bounds one: Prisma, 5000 unless given. */
  timeoutMs?: number
}

/**
 * What the server says of a transaction that would succeed if it were run again
 * (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html).
 */
const SERIALIZATION_FAILURE = '40001'
const DEADLOCK_DETECTED = '40P01'

export const DEFAULT_MAX_ATTEMPTS = 5

/** Longest wait before the second try; it doubles with each, up to the limit. */
const BACKOFF_MS = 20
const MAX_BACKOFF_MS = 1_000

/** Runs the body, whatever transaction the code is in: who calls it says what the body may ask for. */
export function runTransaction<Tx, T>(
  database: Database<Tx>,
  body: (tx: Tx) => Promise<T>,
  options: TransactionOptions,
): Promise<T> {
  const { name } = options
  const title = name === undefined ? 'transaction' : `transaction ${name}`
  return trace.getTracer(SCOPE).startActiveSpan(title, async (span) => {
    const sends = markSends()
    try {
      return await attempts(span, database, body, options, sends)
    } finally {
      sends.end()
      span.end()
    }
  })
}

async function attempts<Tx, T>(
  span: Span,
  database: Database<Tx>,
  body: (tx: Tx) => Promise<T>,
  { isolation, maxAttempts = DEFAULT_MAX_ATTEMPTS, timeoutMs }: TransactionOptions,
  sends: SendsMark,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    span.setAttribute(ATTRIBUTE.transactionAttempts, attempt)
    try {
      const value = await database.transaction(async (tx, run) => {
        if (isolation !== undefined) await run(`SET TRANSACTION ISOLATION LEVEL ${LEVELS[isolation]}`, [])
        return body(tx)
      }, timeoutMs)
      span.setAttribute(ATTRIBUTE.transactionOutcome, 'commit')
      return value
    } catch (error) {
      sends.takeBack()
      const state = conflictOf(error)
      if (state === undefined || attempt === maxAttempts) {
        showRollback(span, state)
        throw error
      }
      span.addEvent(EVENT.transactionRetry, { [ATTRIBUTE.errorType]: state })
      await sleep(Math.random() * Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** attempt))
    }
  }
}

/** Written out, so that no text of the caller's stands in a statement. */
const LEVELS: Record<NonNullable<TransactionOptions['isolation']>, string> = {
  'read committed': 'READ COMMITTED',
  'repeatable read': 'REPEATABLE READ',
  serializable: 'SERIALIZABLE',
}

function conflictOf(error: unknown): string | undefined {
  return [SERIALIZATION_FAILURE, DEADLOCK_DETECTED].find((state) => hasSqlState(error, state))
}

// A body may roll back on purpose, by throwing: only a conflict that outlasted all tries is an error of this span.
function showRollback(span: Span, state: string | undefined): void {
  span.setAttribute(ATTRIBUTE.transactionOutcome, 'rollback')
  if (state === undefined) return
  span.setAttribute(ATTRIBUTE.errorType, state)
  span.setStatus({ code: SpanStatusCode.ERROR, message: state })
}

export function nestedError(): ThroughlineError {
  return new ThroughlineError(
    'TRANSACTION_NESTED',
    'A transaction was asked for inside another of the same client.',
    {
      why: 'It would be a second one, on another connection: it commits when the first is rolled back, and may wait for it for ever.',
      fix: 'Hand the tx of the first on to the code that writes, or run the second after the first.',
    },
  )
}
