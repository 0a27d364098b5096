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
import { count, recordSeconds } from '../telemetry/meter.js'
import { ATTRIBUTE, EVENT, METRIC, SCOPE } from '../telemetry/names.js'
import { spanContextOf, traceparentOf } from '../telemetry/sdk-pieces.js'
import { Completion, type CompletionSetUp } from './completion.js'
import { type Envelope, type FailedAttempt, messageIdOfJob, openEnvelope, type QueuedJob } from './message.js'
import { type PayloadSchema, validPayload } from './topics.js'

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
export interface AttemptSetUp<Tx> extends CompletionSetUp<Tx> {
  schema: PayloadSchema
  handler: Handler<unknown, Tx>
  /** Says that the attempt failed. */
  fail(job: QueuedJob, envelope: Envelope, failure: FailedAttempt): Promise<void>
  /** Aborted when whoever works has no more time. */
  deadline?: AbortSignal
}

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
  const completion = new Completion(job, setUp, expiry.expired, traceparentOf(span))
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
