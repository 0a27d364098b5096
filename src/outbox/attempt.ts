/**
 * One attempt at a message: the context it was sent in, a trace of its own, the handler, and what became of it.
 *
 *   taken ──► handler ──► complete: begin ──► writes ──► done ──► commit      done, once
 *                │                              │          │
 *                │ throws or expires            │ throws   │ the message is no longer this attempt's
 *                ▼                              ▼          ▼
 *              fail ◄───────────────────────── rollback ◄──┘                  tried again, or a dead letter
 *
 * The queue lies in the same database, so its own record of the message is the receipt: it is completed in the
 * transaction of the handler's writes, and only for the attempt that took it. A second record, as `runOnce` keeps one,
 * would say the same at the price of two more statements. No transaction is open while the handler calls others.
 */
import { type Link, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { Logger } from 'pino'
import { createContext, randomTraceId, runAndClose } from '../context/index.js'
import { ThroughlineError } from '../errors.js'
import { inActiveRun } from '../idempotency/active-run.js'
import { errorFields } from '../logging/error-fields.js'
import { logger } from '../logging/index.js'
import { inTransaction } from '../postgres/active-transaction.js'
import type { Database } from '../postgres/database.js'
import { revocable } from '../postgres/revocable.js'
import { runTransaction } from '../postgres/transaction.js'
import { count, recordSeconds } from '../telemetry/meter.js'
import { ATTRIBUTE, EVENT, METRIC, SCOPE } from '../telemetry/names.js'
import { spanContextOf, traceparentOf } from '../telemetry/sdk-pieces.js'
import { type Envelope, type FailedAttempt, messageIdOfJob, openEnvelope } from './message.js'
import { type PayloadSchema, validPayload } from './topics.js'

/** A job as pg-boss hands it out. */
export interface QueuedJob {
  id: string
  name: string
  data: unknown
  retryCount: number
  retryLimit: number
  retryDelayMax?: number | undefined
  expireInSeconds: number
  sourceRootId: string | null
}

/** What a handler knows of its attempt. */
export interface Attempt<Tx> {
  /** The same on every attempt, also after the message has been a dead letter: what others take for a key. */
  messageId: string
  /** 1 for the first. */
  attempt: number
  correlationId: string
  /** Aborted when the attempt has lasted too long: then it is given up, and tried again. */
  signal: AbortSignal
  log: Logger
  /**
   * Writes, and says that the message is done, in one transaction: both are there or neither, so what is written through
   * `tx` is written once. It stands last, after the calls to others. A handler that returns without it is done too.
   *
   * A serialization failure or a deadlock runs the body again.
   *
   * @throws {ThroughlineError} `OUTBOX_CLAIM_LOST` when another attempt has the message by now; nothing was written.
   */
  complete<T>(body: (tx: Tx) => Promise<T>): Promise<T>
}

export type Handler<Payload, Tx> = (payload: Payload, attempt: Attempt<Tx>) => Promise<unknown>

/** What an attempt needs of its outbox. */
export interface AttemptSetUp<Tx> {
  database: Database<Tx>
  /** The app's client, which transactions are begun on. */
  client: unknown
  schema: PayloadSchema
  handler: Handler<unknown, Tx>
  /** Says, in the transaction or by itself, that the message is done. False when it is no longer this attempt's. */
  complete(job: QueuedJob, on: Tx | 'client', done: { traceparent: string | undefined }): Promise<boolean>
  /** Says that the attempt failed. */
  fail(job: QueuedJob, envelope: Envelope, failure: FailedAttempt): Promise<void>
  /** Aborted when whoever works has no more time. */
  deadline?: AbortSignal
}

/** How much longer than an attempt its transaction may last, where the client bounds one, in milliseconds. */
const GRACE_MS = 5_000

/** Runs the handler, and settles the message. Resolves to whether it is done; never rejects. */
export async function attemptMessage<Tx>(job: QueuedJob, setUp: AttemptSetUp<Tx>): Promise<boolean> {
  const envelope = openEnvelope(job.data)
  const traceId = randomTraceId()
  const { correlationId = traceId, action } = envelope.from
  const requestContext = createContext(
    { correlationId, traceId },
    action === undefined ? {} : { action: { name: action } },
  )
  return runAndClose(requestContext, () =>
    trace.getTracer(SCOPE).startActiveSpan(`process ${job.name}`, spanOptionsOf(job, envelope), (span) => {
      requestContext.firstSpan ??= span
      span.setAttribute(ATTRIBUTE.correlationId, correlationId)
      return settled(span, job, envelope, correlationId, setUp)
    }),
  )
}

async function settled<Tx>(
  span: Span,
  job: QueuedJob,
  envelope: Envelope,
  correlationId: string,
  setUp: AttemptSetUp<Tx>,
): Promise<boolean> {
  const startedAt = performance.now()
  const fields = { topic: job.name, message_id: messageIdOfJob(job), attempt: job.retryCount + 1 }
  const labels = { [ATTRIBUTE.outboxTopic]: job.name }
  let outcome = 'handled'
  try {
    await handled(span, job, envelope, correlationId, setUp)
    logger.info(fields, 'message handled')
    return true
  } catch (error) {
    const failure = failureOf(error, fields.attempt, span)
    outcome = job.retryCount < job.retryLimit ? 'retried' : 'dead'
    logger.error({ ...fields, outcome, err: error }, 'message failed')
    span.setAttribute(ATTRIBUTE.errorType, failure.type)
    if (error instanceof Error) span.recordException(error)
    span.setStatus({ code: SpanStatusCode.ERROR, message: failure.message })
    // What cannot be said now is seen later: the message is taken back when its time is over.
    await setUp.fail(job, envelope, failure).catch((cause: unknown) => {
      logger.warn({ ...fields, err: cause }, 'message could not be given back')
    })
    return false
  } finally {
    span.setAttribute(ATTRIBUTE.outboxOutcome, outcome)
    const seconds = (performance.now() - startedAt) / 1000
    count(METRIC.outboxAttempts, { ...labels, [ATTRIBUTE.outboxOutcome]: outcome })
    recordSeconds(METRIC.outboxAttemptDuration, seconds, labels)
    span.end()
  }
}

async function handled<Tx>(
  span: Span,
  job: QueuedJob,
  envelope: Envelope,
  correlationId: string,
  setUp: AttemptSetUp<Tx>,
): Promise<void> {
  const { schema, handler, deadline } = setUp
  const payload = await validPayload(schema, job.name, envelope.payload)
  const messageId = messageIdOfJob(job)
  const expiry = expiryOf(job)
  const completion = new Completion(job, setUp, expiry.expired, span)
  const attempt: Attempt<Tx> = {
    ...{ messageId, attempt: job.retryCount + 1, correlationId, log: logger },
    signal: deadline === undefined ? expiry.signal : AbortSignal.any([expiry.signal, deadline]),
    complete: (body) => completion.write(body),
  }
  try {
    await Promise.race([inActiveRun(messageId, async () => handler(payload, attempt)), expiry.expired])
    await completion.end()
  } catch (error) {
    // Done is done: another try would do it twice.
    if (!completion.isDone) throw error
    logger.error(
      { topic: job.name, message_id: messageId, err: error },
      'handler failed after its message was done',
    )
  } finally {
    expiry.clear()
  }
}

/** Says once that a message is done. */
class Completion<Tx> {
  isDone = false
  #isBegun = false
  #failure: unknown
  readonly #job: QueuedJob
  readonly #setUp: AttemptSetUp<Tx>
  readonly #expired: Promise<never>
  readonly #done: { traceparent: string | undefined }

  constructor(job: QueuedJob, setUp: AttemptSetUp<Tx>, expired: Promise<never>, span: Span) {
    this.#job = job
    this.#setUp = setUp
    this.#expired = expired
    this.#done = { traceparent: traceparentOf(span) }
  }

  async write<T>(body: (tx: Tx) => Promise<T>): Promise<T> {
    if (this.#isBegun) throw completedTwiceError()
    this.#isBegun = true
    const { database } = this.#setUp
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
      const value = await Promise.race([writing, this.#expired])
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

function expiryOf({ expireInSeconds }: QueuedJob) {
  const controller = new AbortController()
  const expired = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true })
  })
  // Nobody may be waiting any more when it comes.
  expired.catch(() => {})
  const timer = setTimeout(() => controller.abort(expiredError(expireInSeconds)), expireInSeconds * 1000)
  return { signal: controller.signal, expired, clear: () => clearTimeout(timer) }
}

/** Attributes by OpenTelemetry's conventions (https://opentelemetry.io/docs/specs/semconv/messaging/), and ours. */
function spanOptionsOf(job: QueuedJob, { from, failed }: Envelope) {
  const links: Link[] = []
  const sent = spanContextOf(from.traceparent)
  if (sent !== undefined) links.push({ context: sent, attributes: { [EVENT.outboxSent]: true } })
  const before = spanContextOf(failed.at(-1)?.traceparent)
  if (before !== undefined)
    links.push({ context: before, attributes: { [EVENT.outboxPreviousAttempt]: true } })
  return {
    root: true,
    kind: SpanKind.CONSUMER,
    links,
    attributes: {
      [ATTRIBUTE.messagingSystem]: 'pg-boss',
      [ATTRIBUTE.messagingOperation]: 'process',
      [ATTRIBUTE.messagingOperationType]: 'process',
      [ATTRIBUTE.messagingDestination]: job.name,
      [ATTRIBUTE.messagingMessageId]: messageIdOfJob(job),
      [ATTRIBUTE.outboxTopic]: job.name,
      [ATTRIBUTE.outboxAttempt]: job.retryCount + 1,
      ...(from.action === undefined ? {} : { [ATTRIBUTE.actionName]: from.action }),
    },
  }
}

function failureOf(error: unknown, attempt: number, span: Span): FailedAttempt {
  const logged = errorFields(error ?? new Error('The handler threw nothing.'))
  const { type = 'Error', message = '', stack } = logged ?? {}
  return {
    attempt,
    type,
    message,
    ...(stack === undefined ? {} : { stack }),
    at: new Date().toISOString(),
    traceparent: traceparentOf(span),
  }
}

function expiredError(seconds: number): ThroughlineError {
  return new ThroughlineError('OUTBOX_ATTEMPT_EXPIRED', `The handler lasted longer than ${seconds} s.`, {
    why: 'That is how long an attempt may last; what complete wrote was rolled back.',
    fix: 'Hand attempt.signal on to what the handler waits for, or raise expireInSeconds of createOutbox.',
  })
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
