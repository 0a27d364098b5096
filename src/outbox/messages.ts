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
import { withFailure } from './message.js'
import {
  type Entry,
  type MessageQuery,
  type MessageState,
  messageOf,
  messagesStatement,
  type OutboxMessage,
  summariesOf,
  type TopicSummary,
  topicsStatement,
} from './message-rows.js'
import { isSchemaName } from './options.js'
import { connectionOf, importPgBoss } from './queue.js'

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

/** What is long enough to be the beginning of an ID. */
const BEGINNING = /^[0-9a-f-]{8,36}$/i

/** The most entries of one message, or of one request, that are shown. */
const MAX_FOUND = 200

/**
 * Opens an outbox to look into it. It starts no upkeep and changes nothing by itself.
 *
 * @throws {ThroughlineError} `OUTBOX_TABLES_MISSING`, `PACKAGE_MISSING`
 * @throws {TypeError} for an option out of range.
 */
export async function openMessages(options: MessagesOptions = {}): Promise<Messages> {
  const { schema = 'pgboss' } = options
  if (!isSchemaName(schema)) throw new TypeError('openMessages: "schema" must be 1–50 letters, digits and _.')
  const pgBoss = await importPgBoss()
  const boss = new pgBoss.PgBoss({
    ...connectionOf(options.db, options.connectionString, pgBoss, 'openMessages'),
    schema,
    migrate: false,
    createSchema: false,
    supervise: false,
    schedule: false,
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
  const select = async (query: Omit<MessageQuery, 'schema'>, values: unknown[]) =>
    (await rows(messagesStatement({ schema, ...query }), values)).map(messageOf)
  const dead = async (ids: readonly string[]) =>
    ids.length === 0
      ? []
      : select({ states: ['dead'], condition: `id IN (${placeholders(ids)})`, limit: ids.length }, [...ids])

  return {
    async topics() {
      return summariesOf(await rows(topicsStatement(schema), []))
    },
    async list({ topic, states = OPEN_STATES, limit = 50 }) {
      if (!Number.isSafeInteger(limit) || limit < 1)
        throw new TypeError(`messages.list: "limit" must be a whole number from 1 on, received ${limit}.`)
      if (states.length === 0) return []
      const found = await (topic === undefined
        ? select({ states, condition: 'true', limit }, [])
        : select({ states, condition: 'topic = $1', limit }, [topic]))
      return found.map(messageIn)
    },
    async find(id) {
      const condition = "$1 IN (id, message_id, data->'from'->>'correlationId')"
      const isBeginning = BEGINNING.test(id)
      const orBegins = isBeginning ? ' OR id LIKE $2 OR message_id LIKE $2' : ''
      const values = isBeginning ? [id, `${id.toLowerCase()}%`] : [id]
      return (await select({ condition: condition + orBegins, limit: MAX_FOUND }, values)).map(messageIn)
    },
    async redrive(ids) {
      let redriven = 0
      // The oldest first: they go back in the order they came.
      for (const entry of (await dead(ids)).reverse())
        redriven += entry.isInPlace ? await retryInPlace(entry) : await redriveOne(boss, entry)
      return redriven
    },
    async discard(ids) {
      let discarded = 0
      for (const { id, queue, isInPlace } of await dead(ids)) {
        // As it was found: one that was redriven meanwhile is no dead letter any more.
        const condition = `name = $1 AND id = $2::uuid AND state = '${isInPlace ? 'failed' : 'created'}'`
        const deleted = await rows(`DELETE FROM ${schema}.job WHERE ${condition} RETURNING id`, [queue, id])
        discarded += deleted.length
      }
      return discarded
    },
    close: () => boss.stop({ graceful: false }),
  }

  /** A message that blocks its key never left its queue: it goes on from there, with all its tries. */
  async function retryInPlace({ id, queue, envelope, failed }: Entry): Promise<number> {
    const last = failed.at(-1)
    const data = last === undefined ? envelope : withFailure(envelope, last)
    const retried = await rows(
      `UPDATE ${schema}.job SET state = 'retry', retry_count = 0, started_on = NULL, completed_on = NULL,
         start_after = now(), output = NULL, data = $3::text::jsonb
       WHERE name = $1 AND id = $2::uuid AND state = 'failed' RETURNING id`,
      [queue, id, JSON.stringify(data)],
    )
    return retried.length
  }
}

function messageIn({ queue: _, envelope: __, isInPlace: ___, ...message }: Entry): OutboxMessage {
  return message
}

async function redriveOne(boss: PgBoss, { id, queue, envelope, failed }: Entry): Promise<number> {
  // Its last failure would go with the dead letter.
  const last = failed.at(-1)
  if (last !== undefined && failed.length > envelope.failed.length)
    await boss.update(queue, withFailure(envelope, last), { id })
  return boss.redrive(queue, { ids: [id] })
}

function placeholders(values: readonly unknown[]): string {
  return values.map((_, index) => `$${index + 1}`).join(', ')
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
