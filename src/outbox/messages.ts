/**
 * Looking into an outbox: what waits, what became of one message, and what to do with those that failed for good.
 *
 *   waiting ──► active ──► done
 *     ▲           │
 *     │           ├──► retrying ──► active
 *     │           └──► dead ──► discarded: gone
 *     └──────────────── │ redriven
 */
import type { PgBoss } from 'pg-boss'
import { ThroughlineError } from '../errors.js'
import { hasSqlState, type PostgresDatabase, type Row } from '../postgres/database.js'
import { type Envelope, type FailedAttempt, failedAttempt, openEnvelope, withFailure } from './message.js'
import { connectionOf, importPgBoss } from './queue.js'

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

export interface MessageFilter {
  topic?: string | undefined
  /** Default: all that are not done, replaced or cancelled. */
  states?: readonly MessageState[]
  /** Default 50. */
  limit?: number
}

export interface MessagesOptions {
  /** A Pool of pg or a PGlite. Without one, `connectionString` is connected to. */
  db?: PostgresDatabase
  /** Default `DATABASE_URL`. */
  connectionString?: string
  /** Default `pgboss`. */
  schema?: string
}

export interface Messages {
  topics(): Promise<TopicSummary[]>
  /** The newest first. */
  list(filter: MessageFilter): Promise<OutboxMessage[]>
  /** Entries whose ID, message ID or correlation ID is this, or (8 characters or more) whose IDs begin with it. */
  find(id: string): Promise<OutboxMessage[]>
  /** Gives dead letters back to their topics. Returns how many. */
  redrive(ids: readonly string[]): Promise<number>
  /** Deletes dead letters. Returns how many. */
  discard(ids: readonly string[]): Promise<number>
  close(): Promise<void>
}

const OPEN_STATES: readonly MessageState[] = ['waiting', 'deferred', 'retrying', 'active', 'dead']

/** The most entries of one message, or of one request, that are shown. */
const MAX_FOUND = 200

/**
 * Opens an outbox to look into it. It starts no upkeep and changes nothing by itself.
 *
 * @throws {ThroughlineError} `OUTBOX_TABLES_MISSING`, `PACKAGE_MISSING`
 */
export async function openMessages(options: MessagesOptions = {}): Promise<Messages> {
  const { schema = 'pgboss' } = options
  const pgBoss = await importPgBoss()
  const boss = new pgBoss.PgBoss({
    ...connectionOf(options.db, options.connectionString, pgBoss),
    ...{ schema, migrate: false, createSchema: false, supervise: false, schedule: false },
    registerInstance: false,
  })
  boss.on('error', () => {})
  await boss.start().catch(async (error: unknown) => {
    await boss.stop({ graceful: false }).catch(() => {})
    throw isMissing(error) ? tablesMissingError(schema, error) : error
  })
  const { executeSql } = boss.getDb()
  const rows = async (text: string, values: unknown[]) =>
    (await executeSql.call(boss.getDb(), text, values)).rows as Row[]
  const select = async (condition: string, values: unknown[], limit: number) =>
    (await rows(messagesStatement(schema, condition, limit), values)).map(messageOf)
  const dead = async (ids: readonly string[]) =>
    ids.length === 0 ? [] : select(`standing = 'dead' AND id IN (${placeholders(ids)})`, [...ids], ids.length)

  return {
    async topics() {
      return summariesOf(await rows(topicsStatement(schema), []))
    },
    list({ topic, states = OPEN_STATES, limit = 50 }) {
      const conditions = [`standing IN (${placeholders(states)})`]
      if (topic !== undefined) conditions.push(`topic = $${states.length + 1}`)
      return select(conditions.join(' AND '), topic === undefined ? [...states] : [...states, topic], limit)
    },
    find(id) {
      const exact = `id = $1 OR message_id = $1 OR data->'from'->>'correlationId' = $1`
      const isPrefix = /^[0-9a-f-]{8,36}$/i.test(id)
      const begins = ` OR id LIKE $2 OR message_id LIKE $2`
      const values = isPrefix ? [id.toLowerCase(), `${id.toLowerCase()}%`] : [id]
      return select(isPrefix ? `${exact}${begins}` : exact, values, MAX_FOUND)
    },
    async redrive(ids) {
      let redriven = 0
      for (const message of await dead(ids)) redriven += await redriveOne(boss, message)
      return redriven
    },
    async discard(ids) {
      let discarded = 0
      for (const { id, queue } of await dead(ids)) {
        const { affected } = (await boss.deleteJob(queue, id)) as { affected: number }
        discarded += affected
      }
      return discarded
    },
    close: () => boss.stop({ graceful: false }),
  }
}

/** A message, and the queue that its entry lies in. */
type Entry = OutboxMessage & { queue: string; envelope: Envelope; hasOwnDeadLetter: boolean }

async function redriveOne(boss: PgBoss, entry: Entry): Promise<number> {
  // A message that blocks its key never left its queue: it goes on from there.
  if (!entry.hasOwnDeadLetter) {
    const { affected } = (await boss.retry(entry.queue, entry.id)) as { affected: number }
    return affected
  }
  // Its last failure would go with the dead letter.
  const last = entry.failed.at(-1)
  if (last !== undefined && entry.failed.length > entry.envelope.failed.length)
    await boss.update(entry.queue, withFailure(entry.envelope, last), { id: entry.id })
  return boss.redrive(entry.queue, { ids: [entry.id] })
}

function placeholders(values: readonly unknown[]): string {
  return values.map((_, index) => `$${index + 1}`).join(', ')
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

// pg-boss' own queues begin with two underscores.
function messagesStatement(schema: string, condition: string, limit: number): string {
  return `SELECT * FROM (
      SELECT id::text, COALESCE(source_root_id, id)::text AS message_id, name, COALESCE(source_name, name) AS topic,
        ${standing(schema)} AS standing, data, output, source_output, dead_letter IS NULL AND state = 'failed' AS is_in_place,
        COALESCE(source_retry_count, retry_count) AS retry_count, retry_limit, started_on IS NOT NULL AS is_begun,
        singleton_key, created_on, ${msOf('created_on')} AS created_ms, ${msOf('start_after')} AS start_after_ms,
        ${msOf('started_on')} AS started_ms, ${msOf('completed_on')} AS completed_ms
      FROM ${schema}.job WHERE name NOT LIKE '\\_\\_%'
    ) message
    WHERE ${condition}
    ORDER BY created_on DESC, id
    LIMIT ${Math.floor(limit)}`
}

function topicsStatement(schema: string): string {
  return `SELECT topic, standing, count(*)::int AS messages,
      max(extract(epoch FROM now() - GREATEST(created_on, start_after)) * 1000) FILTER (WHERE start_after <= now())::float8 AS oldest_ms
    FROM (
      SELECT COALESCE(source_name, name) AS topic, ${standing(schema)} AS standing, created_on, start_after
      FROM ${schema}.job WHERE name NOT LIKE '\\_\\_%'
    ) message
    GROUP BY topic, standing
    ORDER BY topic`
}

function msOf(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000)::float8`
}

function messageOf(row: Row): Entry {
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
    hasOwnDeadLetter: row.is_in_place !== true,
  }
}

/** The last failure stands in the entry's output; while the message is tried again, among the others too. */
function withLast(failed: readonly FailedAttempt[], last: readonly FailedAttempt[]): FailedAttempt[] {
  const isKnown = (attempt: FailedAttempt) => failed.some(({ at }) => at === attempt.at && at !== '')
  return [...failed, ...last.filter((attempt) => !isKnown(attempt))]
}

/** One for each topic, of rows for each of its states. */
function summariesOf(rows: readonly Row[]): TopicSummary[] {
  const summaries = new Map<string, TopicSummary>()
  for (const row of rows) {
    const topic = String(row.topic)
    const summary = summaries.get(topic) ?? {
      ...{ topic, waiting: 0, deferred: 0, retrying: 0, active: 0, dead: 0, done: 0 },
    }
    summaries.set(topic, summary)
    const state = row.standing as MessageState
    if (state === 'replaced' || state === 'cancelled') continue
    summary[state] = Number(row.messages)
    if (state === 'waiting' || state === 'retrying')
      summary.oldestMs = Math.max(summary.oldestMs ?? 0, Number(row.oldest_ms ?? 0))
  }
  return [...summaries.values()]
}

// A driver may hand JSON back as text.
function parsed(value: unknown): unknown {
  return typeof value === 'string' ? JSON.parse(value) : value
}

const UNDEFINED_TABLE = '42P01'

function isMissing(error: unknown): boolean {
  return hasSqlState(error, UNDEFINED_TABLE) || /not installed/.test((error as Error)?.message ?? '')
}

function tablesMissingError(schema: string, cause: unknown): ThroughlineError {
  return new ThroughlineError('OUTBOX_TABLES_MISSING', 'This database has no outbox.', {
    why: `There are no tables of pg-boss in its schema "${schema}".`,
    fix: 'Name the database and the schema of the app (--database-url, --schema); the app makes the tables when its outbox starts.',
    cause,
  })
}
