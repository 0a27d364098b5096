/** A message's being done, said once: with what its handler writes, or by itself when that has returned. */
import { ThroughlineError } from '../errors.js'
import { activeTransactionOf, inTransaction } from '../postgres/active-transaction.js'
import type { Database } from '../postgres/database.js'
import { revocable } from '../postgres/revocable.js'
import { nestedError, runTransaction } from '../postgres/run-transaction.js'
import type { QueuedJob } from './message.js'

/** What is kept of the attempt that handled a message. */
export interface Done {
  attempt: number
  traceparent: string | undefined
}

/** What is needed to complete a message. */
export interface CompletionSetUp<Tx> {
  database: Database<Tx>
  /** The app's client, which transactions are begun on. */
  client: unknown
  /** Says, in the transaction or by itself, that the message is done. False when it is no longer this attempt's. */
  complete(job: QueuedJob, on: Tx | 'client', done: Done): Promise<boolean>
}

/** How much longer than an attempt its transaction may last, where the client bounds one, in milliseconds. */
const GRACE_MS = 5_000

export class Completion<Tx> {
  isDone = false
  #isBegun = false
  #failure: unknown
  readonly #job: QueuedJob
  readonly #setUp: CompletionSetUp<Tx>
  readonly #over: Promise<never>
  readonly #done: Done

  constructor(
    job: QueuedJob,
    setUp: CompletionSetUp<Tx>,
    over: Promise<never>,
    traceparent: string | undefined,
  ) {
    this.#job = job
    this.#setUp = setUp
    this.#over = over
    this.#done = { attempt: job.retryCount + 1, traceparent }
  }

  async write<T>(body: (tx: Tx) => Promise<T>): Promise<T> {
    if (this.#isBegun) throw completedTwiceError()
    const { database, client } = this.#setUp
    if (activeTransactionOf(client) !== undefined) throw nestedError()
    this.#isBegun = true
    const timeoutMs = this.#job.expireInSeconds * 1000 + GRACE_MS
    try {
      const value = await runTransaction(database, (tx) => this.#writeIn(tx, body), { timeoutMs })
      this.isDone = true
      return value
    } catch (error) {
      this.#failure = error ?? new Error('The body of complete threw nothing.')
      throw error
    }
  }

  async #writeIn<T>(tx: Tx, body: (tx: Tx) => Promise<T>): Promise<T> {
    const { client, complete } = this.#setUp
    const lent = revocable(tx, overError)
    try {
      const writing = inTransaction({ client, tx: lent.tx, owner: 'message' }, () => body(lent.tx))
      const value = await Promise.race([writing, this.#over])
      if (!(await complete(this.#job, tx, this.#done))) throw claimLostError()
      return value
    } finally {
      lent.revoke()
    }
  }

  /** For a handler that has returned. @throws what kept it from writing, also where the handler made nothing of it. */
  async end(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (this.isDone) return
    if (this.#isBegun) throw notAwaitedError()
    this.#isBegun = true
    if (!(await this.#setUp.complete(this.#job, 'client', this.#done))) throw claimLostError()
    this.isDone = true
  }
}

function overError(): ThroughlineError {
  return new ThroughlineError('OUTBOX_ATTEMPT_OVER', 'A transaction was used after it was over.', {
    why: 'The body of complete had returned, or the attempt had lasted too long; its connection serves others by now.',
    fix: 'Await all that uses tx before the body of complete returns.',
  })
}

function completedTwiceError(): ThroughlineError {
  return new ThroughlineError('OUTBOX_ATTEMPT_OVER', 'A message was completed twice.', {
    why: "What the second one writes would not commit with the message's being done.",
    fix: 'Write all of it in the body of one call of complete.',
  })
}

function notAwaitedError(): ThroughlineError {
  return new ThroughlineError(
    'OUTBOX_ATTEMPT_OVER',
    'A handler returned while its message was being completed.',
    {
      why: 'The promise of complete was not awaited, so nothing is known of what it writes.',
      fix: 'Await it: await complete(async (tx) => { … }).',
    },
  )
}

function claimLostError(): ThroughlineError {
  return new ThroughlineError(
    'OUTBOX_CLAIM_LOST',
    'The message was taken away from this attempt while its handler ran.',
    {
      why: 'It had lasted longer than it may, or somebody discarded or redrove it; what complete wrote was rolled back.',
      fix: 'Nothing is lost: another attempt has the message. If it happens often, raise expireInSeconds of createOutbox.',
    },
  )
}
