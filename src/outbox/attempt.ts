/**
 * One attempt at a message: the context it was sent in, a trace of its own, and the handler in one transaction with the
 * message's being done.
 *
 *   taken ──► begin ──► handler ──► complete ──► commit        done, once
 *                          │            │
 *                          │ throws     │ the message is no longer this attempt's
 *                          │ or expires │
 *                          └─────┬──────┘
 *                                ▼
 *                            rollback ──► fail                 tried again, or a dead letter
 *
 * The queue lies in the same database, so its own record of the message is the receipt: it is completed in the
 * handler's transaction, and only for the attempt that took it. A second record, as `runOnce` keeps one, would say the
 * same at the price of two more statements.
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
  /** Commits with the message's being done: what is written through it is written once. */
  tx: Tx
  correlationId: string
  /** Aborted when the attempt has lasted too long: then it is given up, and tried again. */
  signal: AbortSignal
  log: Logger
}

export type Handler<Payload, Tx> = (payload: Payload, attempt: Attempt<Tx>) => Promise<unknown>

/** What an attempt needs of its outbox. */
export interface AttemptSetUp<Tx> {
  database: Database<Tx>
  /** The app's client, which transactions are begun on. */
  client: unknown
  schema: PayloadSchema
  handler: Handler<unknown, Tx>
  /** Says in the transaction that the message is done. False when it is no longer this attempt's. */
  complete(job: QueuedJob, tx: Tx, done: { traceparent: string | undefined }): Promise<boolean>
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
  { database, client, schema, handler, complete, deadline }: AttemptSetUp<Tx>,
): Promise<void> {
  const payload = await validPayload(schema, job.name, envelope.payload)
  const messageId = messageIdOfJob(job)
  const expiry = expiryOf(job)
  const signal = deadline === undefined ? expiry.signal : AbortSignal.any([expiry.signal, deadline])
  const attempt = { messageId, attempt: job.retryCount + 1, correlationId, signal, log: logger }
  try {
    await database.transaction(
      async (tx) => {
        const lent = revocable(tx)
        const handling = inTransaction({ client, tx: lent.tx, owner: 'message' }, () =>
          inActiveRun(messageId, async () => handler(payload, { ...attempt, tx: lent.tx })),
        )
        await Promise.race([handling, expiry.expired]).finally(() => lent.revoke(overError()))
        if (!(await complete(job, tx, { traceparent: traceparentOf(span) }))) throw claimLostError()
      },
      job.expireInSeconds * 1000 + GRACE_MS,
    )
  } finally {
    expiry.clear()
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
    why: 'That is how long an attempt may last; what it wrote through tx was rolled back.',
    fix: 'Hand attempt.signal on to what the handler waits for, or raise expireInSeconds of createOutbox.',
  })
}

function overError(): ThroughlineError {
  return new ThroughlineError('OUTBOX_ATTEMPT_OVER', 'A transaction was used after its attempt was over.', {
    why: "The handler had returned, or had lasted too long; the connection is another transaction's by now.",
    fix: 'Await all that uses tx before the handler returns, and hand attempt.signal on to what it waits for.',
  })
}

function claimLostError(): ThroughlineError {
  return new ThroughlineError(
    'OUTBOX_CLAIM_LOST',
    'The message was taken away from this attempt while its handler ran.',
    {
      why: 'It had lasted longer than it may, or somebody discarded or redrove it; what it wrote through tx was rolled back.',
      fix: 'Nothing is lost: another attempt has the message. If it happens often, raise expireInSeconds of createOutbox.',
    },
  )
}
