/**
 * One attempt at a message: the context it was sent in, a trace of its own, the handler, and what became of it.
 *
 *   taken ──► handler ──► complete: begin ──► writes ──► done ──► commit      handled, once
 *                │                              │          │
 *                │ throws or expires            │ throws   │ the message is no longer this attempt's
 *                ▼                              ▼          ▼
 *              fail ◄───────────────────────── rollback ◄──┘                  retried, or dead
 *
 * The queue lies in the same database, so its own record of the message is the receipt: it is completed in the
 * transaction of the handler's writes, and only for the attempt that took it. A second record, as `runOnce` keeps one,
 * would say the same at the price of two more statements. No transaction is open while the handler calls others.
 */
import { type Link, type Span, SpanKind, trace } from '@opentelemetry/api'
import type { Logger } from 'pino'
import { inActiveRun } from '../context/active-run.js'
import { createContext, randomTraceId, runAndClose } from '../context/index.js'
import { errorFields } from '../logging/error-fields.js'
import { logger } from '../logging/index.js'
import { showError } from '../logging/show-error.js'
import { count, recordSeconds } from '../telemetry/meter.js'
import { ATTRIBUTE, EVENT, METRIC, SCOPE } from '../telemetry/names.js'
import { spanContextOf, traceparentOf } from '../telemetry/sdk-pieces.js'
import { Completion, type CompletionSetUp } from './completion.js'
import { type Envelope, type FailedAttempt, messageIdOfJob, openEnvelope, type QueuedJob } from './message.js'
import { TimeLimit } from './time-limit.js'
import { handledPayload, type PayloadSchema } from './topics.js'

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
   * @throws {ThroughlineError} `OUTBOX_CLAIM_LOST` when another attempt has the message by now, `OUTBOX_ATTEMPT_EXPIRED`
   * when this one has lasted too long: nothing was written. `OUTBOX_ATTEMPT_OVER` for a second call, `TRANSACTION_NESTED`
   * within a transaction of the same client.
   */
  complete<T>(body: (tx: Tx) => Promise<T>): Promise<T>
}

export type Handler<Payload, Tx> = (payload: Payload, attempt: Attempt<Tx>) => Promise<unknown>

/**
 * What became of an attempt. `returned`: whoever worked had no more time, and it does not count. `lost`: the message was
 * taken away meanwhile, or is gone.
 */
export type AttemptOutcome = 'handled' | 'retried' | 'dead' | 'returned' | 'lost'

/** What an attempt needs of its outbox. */
export interface AttemptSetUp<Tx> extends CompletionSetUp<Tx> {
  schema: PayloadSchema
  handler: Handler<unknown, Tx>
  /** Says that the attempt failed. Resolves to whether the message was this attempt's, and not done by it after all. */
  fail(job: QueuedJob, envelope: Envelope, failure: FailedAttempt): Promise<'failed' | 'done' | 'lost'>
  /** Gives the message back as if it had not been taken. */
  giveBack(job: QueuedJob): Promise<void>
  /** Aborted when whoever works has no more time. */
  deadline?: AbortSignal
}

/** Runs the handler, and settles the message. Never rejects. */
export async function attemptMessage<Tx>(job: QueuedJob, setUp: AttemptSetUp<Tx>): Promise<AttemptOutcome> {
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
      return measured(span, job, () => settled(span, job, envelope, correlationId, setUp))
    }),
  )
}

async function measured(
  span: Span,
  job: QueuedJob,
  attempt: () => Promise<AttemptOutcome>,
): Promise<AttemptOutcome> {
  const startedAt = performance.now()
  const outcome = await attempt()
  const labels = { [ATTRIBUTE.outboxTopic]: job.name }
  span.setAttribute(ATTRIBUTE.outboxOutcome, outcome)
  span.end()
  count(METRIC.outboxAttempts, { ...labels, [ATTRIBUTE.outboxOutcome]: outcome })
  recordSeconds(METRIC.outboxAttemptDuration, (performance.now() - startedAt) / 1000, labels)
  return outcome
}

async function settled<Tx>(
  span: Span,
  job: QueuedJob,
  envelope: Envelope,
  correlationId: string,
  setUp: AttemptSetUp<Tx>,
): Promise<AttemptOutcome> {
  const fields = { topic: job.name, message_id: messageIdOfJob(job), attempt: job.retryCount + 1 }
  const limit = new TimeLimit(job.expireInSeconds, setUp.deadline)
  try {
    await handled(span, job, envelope, correlationId, limit, setUp)
    logger.info(fields, 'message handled')
    return 'handled'
  } catch (error) {
    if (limit.isOutOfTime(error)) {
      await setUp.giveBack(job).catch((cause: unknown) => tellNotGivenBack(fields, cause))
      logger.info(fields, 'message given back: no time was left')
      return 'returned'
    }
    const failure = failureOf(error, fields.attempt, span)
    // What cannot be said now is seen later: the message is taken back when its time is over.
    const became = await setUp.fail(job, envelope, failure).catch((cause: unknown) => {
      tellNotGivenBack(fields, cause)
      return 'failed' as const
    })
    if (became === 'done') {
      logger.warn({ ...fields, err: error }, 'message handled, though its attempt failed at the end')
      return 'handled'
    }
    showError(span, error)
    const retriedOrDead = job.retryCount < job.retryLimit ? 'retried' : 'dead'
    const outcome = became === 'lost' ? 'lost' : retriedOrDead
    logger.error({ ...fields, outcome, err: error }, 'message failed')
    return outcome
  } finally {
    limit.clear()
  }
}

async function handled<Tx>(
  span: Span,
  job: QueuedJob,
  envelope: Envelope,
  correlationId: string,
  limit: TimeLimit,
  setUp: AttemptSetUp<Tx>,
): Promise<void> {
  const payload = await handledPayload(setUp.schema, job.name, envelope.payload)
  const messageId = messageIdOfJob(job)
  const completion = new Completion(job, setUp, limit.over, traceparentOf(span))
  const attempt: Attempt<Tx> = {
    messageId,
    attempt: job.retryCount + 1,
    correlationId,
    signal: limit.signal,
    log: logger,
    complete(body) {
      const writing = completion.write(body)
      // A handler that does not await it is told at the end, and nobody else.
      writing.catch(() => {})
      return writing
    },
  }
  try {
    await Promise.race([inActiveRun(messageId, async () => setUp.handler(payload, attempt)), limit.over])
    await completion.end()
  } catch (error) {
    // Done is done: another try would do it twice.
    if (!completion.isDone) throw error
    logger.error(
      { topic: job.name, message_id: messageId, err: error },
      'handler failed after its message was done',
    )
  }
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
    type: storable(type),
    message: storable(message),
    ...(stack === undefined ? {} : { stack: storable(stack) }),
    at: new Date().toISOString(),
    traceparent: traceparentOf(span),
  }
}

/** Postgres keeps no NUL in a text, and no half of a surrogate pair. */
function storable(text: string): string {
  return text.replace(/\0|\p{Cs}/gu, '\ufffd')
}

function tellNotGivenBack(fields: object, cause: unknown): void {
  logger.warn({ ...fields, err: cause }, 'message could not be given back')
}
