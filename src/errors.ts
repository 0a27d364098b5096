/**
 * The one error type of this package, and the list of its codes.
 *
 * Bundlers make several copies of a library in one process, so an error is recognised by a brand on the
 * object (`isThroughlineError`), never by `instanceof`.
 */

/** Every code an error of this package can carry. Stable: safe to `switch` on. */
export type ThroughlineErrorCode =
  /** `getContext()` was called where no request is active. */
  | 'CONTEXT_MISSING'
  /** A package that a feature leans on is not installed. */
  | 'PACKAGE_MISSING'
  /** The idempotency key of a request is absent. */
  | 'IDEMPOTENCY_KEY_MISSING'
  /** The idempotency key of a request has other characters, or another length, than allowed. */
  | 'IDEMPOTENCY_KEY_MALFORMED'
  /** The key was used before with another payload. */
  | 'IDEMPOTENCY_MISMATCH'
  /** The first use of the key is still running. */
  | 'IDEMPOTENCY_BUSY'
  /** An earlier run passed its point of no return and its result is not known. */
  | 'IDEMPOTENCY_UNKNOWN'
  /** The run lost its lease to another before it could store its result. */
  | 'IDEMPOTENCY_LEASE_LOST'
  /** The earlier run finished, but its result cannot be read back. */
  | 'IDEMPOTENCY_NOT_REPLAYABLE'
  /** The store did not answer, and the action is set to refuse then. */
  | 'STORE_UNAVAILABLE'
  /** The table of a Postgres store has not been made. */
  | 'STORE_TABLE_MISSING'
  /** A transaction was asked for inside another of the same client. */
  | 'TRANSACTION_NESTED'
  /** A message names a topic that the outbox was not given. */
  | 'OUTBOX_TOPIC_UNKNOWN'
  /** The outbox of an embedded database was used before it was started. */
  | 'OUTBOX_NOT_STARTED'
  /** The database has no tables of an outbox. */
  | 'OUTBOX_TABLES_MISSING'
  /** A payload that the topic's schema refuses. */
  | 'OUTBOX_PAYLOAD_INVALID'
  /** A message of a topic that keeps an order was sent without the key it is kept by. */
  | 'OUTBOX_ORDER_KEY_MISSING'
  /** The queue of a topic was made with another order than it is given now. */
  | 'OUTBOX_ORDER_CHANGED'
  /** A handler lasted longer than it may. */
  | 'OUTBOX_ATTEMPT_EXPIRED'
  /** A drain had no more time for a message. */
  | 'OUTBOX_NO_TIME_LEFT'
  /** A handler used its transaction when its attempt was over. */
  | 'OUTBOX_ATTEMPT_OVER'
  /** A message was taken away from its handler while that ran. */
  | 'OUTBOX_CLAIM_LOST'
  /** The file that `throughline worker` was given starts no worker. */
  | 'WORKER_UNUSABLE'
  /** More groups of log lines, or numbers in them, than are kept in memory. */
  | 'TOO_MANY_GROUPS'
  /** A folder is being compacted by another process. */
  | 'COMPACT_RUNNING'
  /** A file or directory of spans or log lines cannot be read. */
  | 'FILES_UNREADABLE'
  /** DuckDB does not understand the SQL that log lines are asked in, or may not do what it says. */
  | 'SQL_INVALID'
  /** The address of a store of logs is none that can be asked. */
  | 'SOURCE_INVALID'
  /** A store of logs does not answer, or broke off. */
  | 'SOURCE_UNREACHABLE'
  /** A store of logs answered that it will not, or with what cannot be read. */
  | 'SOURCE_REFUSED'

const BRAND = Symbol.for('throughline.error')

/** What an error says, in the order a reader wants it. */
export interface ErrorExplanation {
  /** Why it happened, in one sentence. */
  why: string
  /** What mends it, in one sentence. */
  fix: string
  /** The error underneath, if any. */
  cause?: unknown
}

/**
 * An error with a stable `code`, what happened (`message`), `why`, and how to `fix` it.
 *
 * @example
 * try { await createOrder(form) } catch (error) {
 *   if (isThroughlineError(error) && error.code === 'IDEMPOTENCY_BUSY') return tryLater()
 *   throw error
 * }
 */
export class ThroughlineError extends Error {
  readonly code: ThroughlineErrorCode
  readonly why: string
  readonly fix: string

  constructor(code: ThroughlineErrorCode, message: string, { why, fix, cause }: ErrorExplanation) {
    super(`${message} ${why} ${fix}`, cause === undefined ? undefined : { cause })
    this.name = 'ThroughlineError'
    this.code = code
    this.why = why
    this.fix = fix
    Object.defineProperty(this, BRAND, { value: true })
  }
}

/** True for an error of this package, whichever copy of it threw. */
export function isThroughlineError(error: unknown): error is ThroughlineError {
  return typeof error === 'object' && error !== null && BRAND in error
}
