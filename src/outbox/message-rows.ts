/** Messages as they lie in pg-boss' tables: the statements that read them, and what their rows say. */
import type { Row } from '../postgres/database.js'
import { type Envelope, type FailedAttempt, failedAttempt, openEnvelope } from './message.js'

/** How a message stands. `deferred`: its time has not come. `replaced`: its copy lies with the dead letters. */
export const MESSAGE_STATES = [
  ...(['waiting', 'deferred', 'retrying', 'active', 'dead'] as const),
  ...(['done', 'replaced', 'cancelled'] as const),
] as const
export type MessageState = (typeof MESSAGE_STATES)[number]

/** A message as it lies in the queue. */
export interface OutboxMessage {
  /** Of the queue's entry: what `redrive` and `discard` take. */
  id: string
  /** Of the message: the same after it has been a dead letter. */
  messageId: string
  topic: string
  state: MessageState
  /** Attempts that were begun. */
  attempts: number
  /** Attempts that it has in all. */
  maxAttempts: number
  orderKey?: string
  payload: unknown
  /** What sent it. Times are epoch milliseconds. */
  sent: { timeMs: number; correlationId?: string; traceparent?: string; action?: string }
  /** Failed attempts that left word, the oldest first. */
  failed: FailedAttempt[]
  /** When it may be tried, while it waits. */
  startAfterMs: number
  /** When the attempt under way began. */
  startedMs?: number
  /** The attempt that handled it. */
  done?: { timeMs: number; traceparent?: string }
}

/** Counts of one topic. */
export interface TopicSummary {
  topic: string
  waiting: number
  deferred: number
  retrying: number
  active: number
  dead: number
  /** Handled, and still kept. */
  done: number
  /** How long the oldest has waited that could be handled now, in milliseconds. */
  oldestMs?: number
}

/** A message, and the queue that its entry lies in. */
export type Entry = OutboxMessage & {
  queue: string
  envelope: Envelope
  /** True for a dead letter of a topic that blocks: it lies in its own queue. */
  isInPlace: boolean
}

/** The states of pg-boss that each may be: what an index finds. */
const STORED_STATES: Record<MessageState, readonly string[]> = {
  waiting: ['created'],
  deferred: ['created'],
  retrying: ['retry'],
  active: ['active'],
  dead: ['created', 'failed'],
  done: ['completed'],
  replaced: ['failed'],
  cancelled: ['cancelled'],
}

/** What an entry is to a reader, by its state and its queue. */
function standing(schema: string): string {
  return `CASE
      WHEN state = 'created' AND EXISTS (SELECT 1 FROM ${schema}.queue q WHERE q.dead_letter = job.name) THEN 'dead'
      WHEN state = 'failed' THEN CASE WHEN dead_letter IS NULL THEN 'dead' ELSE 'replaced' END
      WHEN state = 'retry' THEN 'retrying'
      WHEN state = 'created' THEN CASE WHEN start_after > now() THEN 'deferred' ELSE 'waiting' END
      WHEN state = 'completed' THEN 'done'
      ELSE state::text
    END`
}

/** Which messages: the condition is on the columns of the statement, with its parameters. */
export interface MessageQuery {
  schema: string
  /** Default all. */
  states?: readonly MessageState[]
  condition: string
  limit: number
}

// pg-boss' own queues begin with two underscores.
export function messagesStatement({
  schema,
  states = MESSAGE_STATES,
  condition,
  limit,
}: MessageQuery): string {
  return `SELECT * FROM (
      SELECT id::text, COALESCE(source_root_id, id)::text AS message_id, name, COALESCE(source_name, name) AS topic,
        ${standing(schema)} AS standing, data, output, source_output, dead_letter IS NULL AND state = 'failed' AS is_in_place,
        COALESCE(source_retry_count, retry_count) AS retry_count, retry_limit, started_on IS NOT NULL AS is_begun,
        singleton_key, created_on, ${msOf('created_on')} AS created_ms, ${msOf('start_after')} AS start_after_ms,
        ${msOf('started_on')} AS started_ms, ${msOf('completed_on')} AS completed_ms
      FROM ${schema}.job WHERE name NOT LIKE '\\_\\_%' AND state IN (${storedStates(states)})
    ) message
    WHERE standing IN (${states.map((state) => `'${state}'`).join(', ')}) AND (${condition})
    ORDER BY created_on DESC, id
    LIMIT ${Math.floor(limit)}`
}

export function topicsStatement(schema: string): string {
  return `SELECT topic, standing, count(*)::int AS messages,
      max(extract(epoch FROM now() - GREATEST(created_on, start_after)) * 1000) FILTER (WHERE start_after <= now())::float8 AS oldest_ms
    FROM (
      SELECT COALESCE(source_name, name) AS topic, ${standing(schema)} AS standing, created_on, start_after
      FROM ${schema}.job WHERE name NOT LIKE '\\_\\_%'
    ) message
    GROUP BY topic, standing
    ORDER BY topic`
}

function storedStates(states: readonly MessageState[]): string {
  return [...new Set(states.flatMap((state) => STORED_STATES[state]))].map((state) => `'${state}'`).join(', ')
}

function msOf(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000)::float8`
}

export function messageOf(row: Row): Entry {
  const envelope = openEnvelope(parsed(row.data))
  const { correlationId, traceparent, action, sentAt } = envelope.from
  const last = [...failedAttempt(parsed(row.source_output)), ...failedAttempt(parsed(row.output))]
  const retryCount = Number(row.retry_count)
  const state = row.standing as MessageState
  const attempts = row.is_begun === true || state === 'dead' ? retryCount + 1 : retryCount
  const isDone = state === 'done'
  const doneIn = (parsed(row.output) as { traceparent?: unknown } | null)?.traceparent
  const startedMs = row.started_ms === null ? undefined : Number(row.started_ms)
  return {
    id: String(row.id),
    messageId: String(row.message_id),
    topic: String(row.topic),
    state,
    attempts,
    // A dead letter bears the limit of its own queue.
    maxAttempts: state === 'dead' ? attempts : Number(row.retry_limit) + 1,
    ...(typeof row.singleton_key === 'string' ? { orderKey: row.singleton_key } : {}),
    payload: envelope.payload,
    sent: {
      timeMs: Date.parse(sentAt ?? '') || Number(row.created_ms),
      ...(correlationId === undefined ? {} : { correlationId }),
      ...(traceparent === undefined ? {} : { traceparent }),
      ...(action === undefined ? {} : { action }),
    },
    failed: withLast(envelope.failed, last),
    startAfterMs: Number(row.start_after_ms),
    ...(startedMs === undefined ? {} : { startedMs }),
    ...(isDone
      ? {
          done: {
            timeMs: Number(row.completed_ms),
            ...(typeof doneIn === 'string' ? { traceparent: doneIn } : {}),
          },
        }
      : {}),
    queue: String(row.name),
    envelope,
    isInPlace: row.is_in_place === true,
  }
}

/** The last failure stands in the entry's output; while the message is tried again, among the others too. */
function withLast(failed: readonly FailedAttempt[], last: readonly FailedAttempt[]): FailedAttempt[] {
  const isKnown = (attempt: FailedAttempt) => failed.some(({ at }) => at === attempt.at && at !== '')
  return [...failed, ...last.filter((attempt) => !isKnown(attempt))]
}

/** One for each topic, of rows for each of its states. */
export function summariesOf(rows: readonly Row[]): TopicSummary[] {
  const summaries = new Map<string, TopicSummary>()
  for (const row of rows) {
    const topic = String(row.topic)
    const summary = summaries.get(topic) ?? noneOf(topic)
    summaries.set(topic, summary)
    const state = row.standing as MessageState
    if (state === 'replaced' || state === 'cancelled') continue
    summary[state] = Number(row.messages)
    if (state === 'waiting' || state === 'retrying')
      summary.oldestMs = Math.max(summary.oldestMs ?? 0, Number(row.oldest_ms ?? 0))
  }
  return [...summaries.values()]
}

function noneOf(topic: string): TopicSummary {
  return { topic, waiting: 0, deferred: 0, retrying: 0, active: 0, dead: 0, done: 0 }
}

// A driver may hand JSON back as text; where it does not, a text is one that other code put there.
function parsed(value: unknown): unknown {
  if (typeof value !== 'string') return value
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}
