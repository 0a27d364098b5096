/** One attempt at a message: the context it was sent in, a trace of its own, and the handler, once per message. */
import { type Span, trace } from '@opentelemetry/api'
import type { Logger } from 'pino'
import { createContext, randomTraceId, runAndClose } from '../context/index.js'
import type { TransactionalStore } from '../idempotency/contract.js'
import { global } from '../idempotency/identity.js'
import { runOnce } from '../idempotency/run-once.js'
import { logger } from '../logging/index.js'
import { ATTRIBUTE, EVENT } from '../telemetry/names.js'
import { spanContextOf, traceparentOf } from '../telemetry/sdk-pieces.js'
import { type Envelope, openEnvelope } from './message.js'
import { type PayloadSchema, validPayload } from './topics.js'

/** A job as pg-boss hands it out. */
export interface QueuedJob {
  id: string
  name: string
  data: unknown
  retryCount: number
  /** Of the attempt before, when that failed. */
  output?: unknown
  signal: AbortSignal
}

/** What a handler knows of its attempt. */
export interface Attempt<Tx> {
  /** Of the queue: the same on every attempt. */
  messageId: string
  /** 1 for the first. */
  attempt: number
  /** Commits with the message's being done: what is written through it is written once. */
  tx: Tx
  correlationId: string
  /** Aborted when the attempt has lasted too long. */
  signal: AbortSignal
  log: Logger
}

export type Handler<Payload, Tx> = (payload: Payload, attempt: Attempt<Tx>) => Promise<unknown>

/** An error keeps the trace of its attempt on it, so that the next one can be linked to it. */
const ATTEMPTED_IN = 'throughlineTraceparent'

/**
 * Runs the handler in the queue's own span. A message that was handled before is done at once; a handler that throws
 * rolls back, and the queue tries again.
 */
export async function attemptMessage<Tx>(
  job: QueuedJob,
  schema: PayloadSchema,
  store: TransactionalStore<Tx>,
  handler: Handler<unknown, Tx>,
): Promise<void> {
  const envelope = openEnvelope(job.data)
  const span = trace.getActiveSpan()
  const traceId = span?.spanContext().traceId ?? randomTraceId()
  const correlationId = envelope.from.correlationId ?? traceId
  const requestContext = createContext({ correlationId, traceId })
  const attempt = job.retryCount + 1
  const fields = { topic: job.name, message_id: job.id, attempt }
  await runAndClose(requestContext, async () => {
    if (span !== undefined) {
      requestContext.firstSpan = span
      span.setAttribute(ATTRIBUTE.correlationId, correlationId)
      showOrigin(span, job, envelope)
    }
    try {
      const payload = await validPayload(schema, job.name, envelope.payload)
      // The message's ID alone says which it is: two messages may well say the same.
      const use = { key: job.id, payload: {}, suspectWindowMs: 0 }
      await runOnce(store, { name: job.name, scope: global(), ...use }, async (run) => {
        const { tx } = run as { tx: Tx }
        await handler(payload, {
          messageId: job.id,
          attempt,
          tx,
          correlationId,
          signal: job.signal,
          log: logger,
        })
      })
      logger.info(fields, 'message handled')
    } catch (error) {
      logger.error({ ...fields, err: error }, 'message failed')
      if (typeof error === 'object' && error !== null && Object.isExtensible(error))
        Object.assign(error, { [ATTEMPTED_IN]: traceparentOf(span) })
      throw error
    }
  })
}

function showOrigin(span: Span, job: QueuedJob, { from }: Envelope): void {
  span.setAttributes({ [ATTRIBUTE.outboxTopic]: job.name, [ATTRIBUTE.outboxAttempt]: job.retryCount + 1 })
  if (from.action !== undefined) span.setAttribute(ATTRIBUTE.actionName, from.action)
  const sent = spanContextOf(from.traceparent)
  if (sent !== undefined) span.addLink({ context: sent, attributes: { [EVENT.outboxSent]: true } })
  const before = spanContextOf((job.output as Record<string, unknown> | undefined)?.[ATTEMPTED_IN])
  if (before !== undefined)
    span.addLink({ context: before, attributes: { [EVENT.outboxPreviousAttempt]: true } })
}
