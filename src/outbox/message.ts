/** A message as it lies in the queue: the payload, where it came from, and what became of it so far. */
import { createHash } from 'node:crypto'
import { activeRun } from '../context/active-run.js'
import { epochMs, isCorrelationId, tryGetContext } from '../context/index.js'
import { traceparentOf } from '../telemetry/sdk-pieces.js'

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

/** Written by `send`, read by a worker of any version. */
export interface Envelope {
  v: 1
  payload: unknown
  /** What sent it. Checked when it is read: the table may have been written by other code. */
  from: {
    correlationId?: string | undefined
    traceparent?: string | undefined
    action?: string | undefined
    /** ISO 8601. */
    sentAt?: string | undefined
  }
  /** Attempts that failed and are known, the last ones: one that was killed left no word. The oldest first. */
  failed: FailedAttempt[]
}

/** What an attempt leaves that failed. */
export interface FailedAttempt {
  /** 1 for the first, and again after a redrive. 0 where it is not known. */
  attempt: number
  /** Name of the error's class. */
  type: string
  message: string
  stack?: string
  /** ISO 8601. */
  at: string
  traceparent: string | undefined
}

/** How many failed attempts a message keeps. */
const MAX_FAILED_KEPT = 20

/** Puts a payload in its envelope, in the request that is active. */
export function envelopeOf(payload: unknown): Envelope {
  const requestContext = tryGetContext()
  return {
    v: 1,
    payload,
    from: {
      correlationId: requestContext?.correlationId,
      // Read when it is written, which is within the span of the send.
      get traceparent() {
        return traceparentOf()
      },
      action: requestContext?.action?.name,
      sentAt: new Date(epochMs()).toISOString(),
    },
    failed: [],
  }
}

/** The same message after another attempt. Of the stack the log line has it all. */
export function withFailure(envelope: Envelope, { stack: _, ...failure }: FailedAttempt): Envelope {
  return { ...envelope, failed: [...envelope.failed, failure].slice(-MAX_FAILED_KEPT) }
}

/** Reads what lies in the queue; what another program put there is a payload that came from nowhere. */
export function openEnvelope(data: unknown): Envelope {
  const { v, payload, from, failed } = (data ?? {}) as Partial<Envelope>
  if (v !== 1 || typeof from !== 'object' || from === null)
    return { v: 1, payload: data, from: {}, failed: [] }
  const { correlationId, traceparent, action, sentAt } = from
  return {
    v: 1,
    payload,
    from: {
      correlationId: isCorrelationId(correlationId) ? correlationId : undefined,
      traceparent: typeof traceparent === 'string' ? traceparent : undefined,
      action: typeof action === 'string' && /^[\w.$-]{1,128}$/.test(action) ? action : undefined,
      sentAt: typeof sentAt === 'string' ? sentAt : undefined,
    },
    failed: Array.isArray(failed) ? failed.flatMap(failedAttempt) : [],
  }
}

/** What lies in the queue of a failed attempt, or none. */
export function failedAttempt(value: unknown): FailedAttempt[] {
  const { attempt, type, message, stack, at, traceparent } = (value ?? {}) as Partial<
    Record<keyof FailedAttempt, unknown>
  >
  if (typeof message !== 'string') return []
  return [
    {
      attempt: typeof attempt === 'number' && Number.isSafeInteger(attempt) ? attempt : 0,
      type: typeof type === 'string' ? type : 'Error',
      message,
      ...(typeof stack === 'string' ? { stack } : {}),
      at: typeof at === 'string' ? at : '',
      traceparent: typeof traceparent === 'string' ? traceparent : undefined,
    },
  ]
}

/** A message that was a dead letter comes back as another job: it stays the message that was sent. */
export function messageIdOfJob(job: { id: string; sourceRootId: string | null }): string {
  return job.sourceRootId ?? job.id
}

/**
 * The ID of a message: the same for one that is sent again, so that the queue takes it once. From the key that was
 * given, else from the run that sends it (guarded, or of another message's handler) and the message's place in it;
 * undefined where neither is, and each send is new.
 */
export function messageIdOf(topic: string, key: string | undefined): string | undefined {
  if (key !== undefined) return uuidOf('key', topic, key)
  const run = activeRun()
  if (run === undefined) return undefined
  const place = run.sent.get(topic) ?? 0
  run.sent.set(topic, place + 1)
  return uuidOf('run', topic, run.key, String(place))
}

/** A UUID of version 8 (https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-8): SHA-256 of the parts. */
function uuidOf(...parts: string[]): string {
  const content = parts.map((part) => `${Buffer.byteLength(part)}:${part}`).join('')
  const bytes = createHash('sha256').update(content).digest().subarray(0, 16)
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6)
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8)
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
