/**
 * The outbox: calls to the outside world that leave by a queue which commits with the mutation. The queue is pg-boss
 * 12 (https://pgboss.io), in the same Postgres; here it is bound to the request.
 *
 *   action ──► transaction ──► send ─┐           ┌─► handler, once per message ──► done
 *                  │                 ▼           │        │ throws
 *                  └── commit ──► the queue ─────┘        └─► tried again, then the dead letter queue
 */
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { ConstructorOptions, PgBoss } from 'pg-boss'
import { ThroughlineError } from '../errors.js'
import { postgresStore } from '../idempotency/stores/postgres.js'
import { databaseOf, type PgPool, type PostgresDatabase, type TransactionOf } from '../postgres/database.js'
import { SCOPE } from '../telemetry/names.js'
import { attemptMessage, type Handler, type QueuedJob } from './attempt.js'
import { envelopeOf, messageIdOf } from './message.js'
import { type InputOf, type OutputOf, schemaOf, type Topics, validPayload } from './topics.js'

/** How an outbox is set up. */
export interface OutboxOptions<Db extends PostgresDatabase, Given extends Topics> {
  /** The client whose transactions messages are sent in. */
  db: Db
  topics: Given
  /**
   * Where pg-boss connects for its own work, when `db` is no Pool of pg and no PGlite: it brings a small pool of its
   * own. Default `DATABASE_URL`.
   */
  connectionString?: string
  /** The schema that pg-boss keeps its tables in. Default `pgboss`. */
  schema?: string
  /** How often a message is tried again before it goes to the dead letter queue. Default 5. */
  retryLimit?: number
  /** The longest wait before another try, in seconds; it begins with 1 and doubles. Default 300. */
  retryDelayMaxSeconds?: number
  /** How long an attempt may last, in seconds: then it is tried again. Default 60. */
  expireInSeconds?: number
  /** Options of pg-boss that are not ours to choose. */
  pgBoss?: Omit<ConstructorOptions, 'db' | 'schema' | 'connectionString'>
}

/** How one message is sent. */
export interface SendMessageOptions {
  /** The same key is sent once. Default: from the guarded run that sends it, else none. */
  key?: string
  /** Not before that time, or so many seconds from now. */
  startAfter?: Date | number
}

/** How a topic is worked off. */
export interface WorkTopicsOptions {
  /** Handlers that run at once, for each topic. Default 1. */
  concurrency?: number
  /** How often the queue is asked, in seconds. At least and by default 0.5. */
  pollingIntervalSeconds?: number
}

/** How what is there is worked off. */
export interface DrainOptions {
  /** No message is begun after so many milliseconds; the signal of one that runs is aborted then. Default 10,000. */
  deadlineMs?: number
}

type HandlersOf<Given extends Topics, Tx> = { [Topic in keyof Given]?: Handler<OutputOf<Given[Topic]>, Tx> }

/** A running worker. */
export interface OutboxWorker {
  /** Takes no more, and waits for what runs. */
  stop(): Promise<void>
}

export interface Outbox<Db extends PostgresDatabase, Given extends Topics> {
  /**
   * Sends a message in the caller's transaction: it is there when that commits, and never was when it rolls back.
   *
   * @returns the message's ID, or undefined when the same key has been sent before.
   * @throws {ThroughlineError} `OUTBOX_TOPIC_UNKNOWN`, `OUTBOX_PAYLOAD_INVALID`: nothing was sent.
   */
  send<Topic extends keyof Given & string>(
    tx: TransactionOf<Db>,
    topic: Topic,
    payload: InputOf<Given[Topic]>,
    options?: SendMessageOptions,
  ): Promise<string | undefined>
  /** Works topics off until it is stopped. */
  work(handlers: HandlersOf<Given, TransactionOf<Db>>, options?: WorkTopicsOptions): Promise<OutboxWorker>
  /**
   * Works off what is there, and returns: for a cron route of a serverless platform, which has no worker.
   *
   * @returns how many messages were handled and how many failed, and whether any may be left.
   */
  drain(
    handlers: HandlersOf<Given, TransactionOf<Db>>,
    options?: DrainOptions,
  ): Promise<{ handled: number; failed: number; isEmpty: boolean }>
  /** Makes pg-boss' tables and the queues, where they are missing. `send` and `work` do it, too. */
  start(): Promise<void>
  /** Closes what `start` opened; the client stays the app's. */
  stop(): Promise<void>
}

/** Where a message goes that failed for good. */
export function deadLetterOf(topic: string): string {
  return `${topic}.dead`
}

/**
 * @throws {TypeError} for a client that is none of Postgres.
 * @example
 * export const outbox = createOutbox({ db: pool, topics: defineTopics({ 'email.receipt': receiptSchema }) })
 * await transaction(pool, async (tx) => {
 *   await insertOrder(tx, form)
 *   await outbox.send(tx, 'email.receipt', { orderId })
 * })
 */
export function createOutbox<Db extends PostgresDatabase, const Given extends Topics>(
  options: OutboxOptions<Db, Given>,
): Outbox<Db, Given> {
  const {
    db,
    topics,
    schema = 'pgboss',
    retryLimit = 5,
    retryDelayMaxSeconds = 300,
    expireInSeconds = 60,
  } = options
  const database = databaseOf('createOutbox', db)
  const executor = (on: unknown) => ({
    executeSql: async (text: string, values: unknown[] = []) => ({
      rows: await database.rows(on, text, values),
    }),
  })
  const store = postgresStore(db)
  /** Handles a message of that topic. */
  const attemptsAt = (topic: string, handlers: HandlersOf<Given, TransactionOf<Db>>) => {
    const payloadSchema = schemaOf(topics, topic)
    const handler = handlers[topic] as Handler<unknown, TransactionOf<Db>>
    return (job: QueuedJob) => attemptMessage(job, payloadSchema, store, handler)
  }
  let starting: Promise<PgBoss> | undefined

  const started = () => {
    starting ??= start().catch((error: unknown) => {
      starting = undefined
      throw error
    })
    return starting
  }

  async function start(): Promise<PgBoss> {
    const pgBoss = await importPgBoss()
    const boss = new pgBoss.PgBoss({
      ...options.pgBoss,
      schema,
      ...connectionOf(db, options.connectionString, pgBoss),
    })
    // Reported by the calls that fail; without a listener it would end the process.
    boss.on('error', () => {})
    await boss.start()
    for (const topic of Object.keys(topics)) {
      await boss.createQueue(deadLetterOf(topic))
      // A message takes these from its queue as it is sent; one that was made before may have had others.
      const retries = { retryLimit, retryBackoff: true, retryDelay: 1, retryDelayMax: retryDelayMaxSeconds }
      const queue = { deadLetter: deadLetterOf(topic), ...retries, expireInSeconds }
      await boss.createQueue(topic, queue)
      await boss.updateQueue(topic, queue)
    }
    return boss
  }

  return {
    async start() {
      await started()
    },
    async stop() {
      const boss = await starting?.catch(() => undefined)
      starting = undefined
      await boss?.stop({ graceful: true })
    },
    async send(tx, topic, payload, { key, startAfter } = {}) {
      const valid = await validPayload(schemaOf(topics, topic), topic, payload)
      if (starting === undefined && isPglite(driverOf(db))) throw notStartedError()
      const boss = await started()
      const id = messageIdOf(topic, key)
      const sent = await boss.send(topic, envelopeOf(valid), {
        db: executor(tx),
        ...(id === undefined ? {} : { id }),
        ...(startAfter === undefined ? {} : { startAfter }),
      })
      return sent ?? undefined
    },
    async work(handlers, workOptions = {}) {
      const boss = await started()
      const { concurrency = 1, pollingIntervalSeconds = 0.5 } = workOptions
      const topicsWorked = Object.keys(handlers)
      for (const topic of topicsWorked) {
        const attempt = attemptsAt(topic, handlers)
        await boss.work(
          topic,
          { batchSize: 1, includeMetadata: true, localConcurrency: concurrency, pollingIntervalSeconds },
          async (jobs) => {
            for (const job of jobs) await attempt(job as QueuedJob)
          },
        )
      }
      return {
        async stop() {
          for (const topic of topicsWorked) await boss.offWork(topic, { wait: true })
        },
      }
    },
    async drain(handlers, { deadlineMs = 10_000 } = {}) {
      const boss = await started()
      const deadline = AbortSignal.timeout(deadlineMs)
      const endMs = performance.now() + deadlineMs
      const counts = { handled: 0, failed: 0, isEmpty: true }
      for (const topic of Object.keys(handlers)) {
        const attempt = attemptsAt(topic, handlers)
        for (;;) {
          if (performance.now() >= endMs) return { ...counts, isEmpty: false }
          const [job] = await boss.fetch(topic, { includeMetadata: true })
          if (job === undefined) break
          const error = await inProcessSpan(topic, () => attempt({ ...(job as QueuedJob), signal: deadline }))
          // Limited to this attempt: one that was given up meanwhile is no longer ours to settle.
          if (error === undefined) await boss.complete(topic, job)
          else await boss.fail(topic, job, error as object)
          counts[error === undefined ? 'handled' : 'failed'] += 1
        }
      }
      return counts
    },
  }
}

/** A worker of pg-boss makes this span itself; what is fetched one by one has none. Resolves to the error, if any. */
function inProcessSpan(topic: string, run: () => Promise<void>): Promise<unknown> {
  const options = { root: true, kind: SpanKind.CONSUMER }
  return trace.getTracer(SCOPE).startActiveSpan(`process ${topic}`, options, async (span) => {
    try {
      await run()
      return undefined
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR })
      return error ?? new Error('The handler threw nothing.')
    } finally {
      span.end()
    }
  })
}

/** What pg-boss does its own work on. It sends several statements at once, with transactions among them. */
function connectionOf(
  db: unknown,
  connectionString: string | undefined = process.env.DATABASE_URL,
  { fromPglite }: typeof import('pg-boss'),
): ConstructorOptions {
  const client = driverOf(db)
  if (isPglite(client)) return { db: fromPglite(client as never), backend: 'pglite' }
  if (isPgPool(client)) {
    const { rows } = databaseOf('createOutbox', client)
    return { db: { executeSql: async (text, values) => ({ rows: await rows('client', text, values) }) } }
  }
  if (connectionString !== undefined) return { connectionString, max: 4 }
  throw new TypeError(
    'createOutbox: "connectionString" must say where pg-boss connects, since "db" is no Pool of pg and no PGlite. DATABASE_URL is not set.',
  )
}

/** The client that a Drizzle database stands on; any other is its own. */
function driverOf(db: unknown): unknown {
  return (db as { $client?: unknown }).$client ?? db
}

function isPglite(db: unknown): boolean {
  return typeof (db as { execProtocol?: unknown }).execProtocol === 'function'
}

function isPgPool(db: unknown): db is PgPool {
  const { totalCount, connect } = db as Partial<PgPool>
  return typeof totalCount === 'number' && typeof connect === 'function'
}

// Its one connection is the transaction's, for which the queue's tables would wait for ever.
function notStartedError(): ThroughlineError {
  return new ThroughlineError('OUTBOX_NOT_STARTED', 'A message was sent before the outbox was started.', {
    why: 'PGlite has one connection, and the transaction that sends has it.',
    fix: 'Call await outbox.start() before the transaction, as in instrumentation.ts.',
  })
}

async function importPgBoss(): Promise<typeof import('pg-boss')> {
  try {
    return await import('pg-boss')
  } catch (cause) {
    throw new ThroughlineError('PACKAGE_MISSING', 'The outbox needs pg-boss, which is not installed.', {
      why: 'It is an optional peer of throughline, and needs Node 22.12 or later.',
      fix: 'Install it: npm install pg-boss@12',
      cause,
    })
  }
}
