/**
 * The outbox: calls to the outside world that leave by a queue which commits with the mutation. The queue is pg-boss
 * 12 (https://pgboss.io), in the same Postgres; here it is bound to the request.
 *
 *   action ──► transaction ──► send ─┐           ┌─► handler, once per message ──► done
 *                  │                 ▼           │        │ throws
 *                  └── commit ──► the queue ─────┘        └─► tried again, then the dead letter queue
 */
import type { ConstructorOptions, PgBoss } from 'pg-boss'
import { ThroughlineError } from '../errors.js'
import { databaseOf, type PostgresDatabase, type TransactionOf } from '../postgres/database.js'
import { untraced } from '../telemetry/untraced.js'
import { type AttemptOutcome, attemptMessage, type Handler } from './attempt.js'
import { envelopeOf, messageIdOf, type QueuedJob } from './message.js'
import { watchQueue } from './metrics.js'
import { assertDeadline, assertOptions, assertStartAfter, assertWorkOptions } from './options.js'
import { assertOrderKey, type OrderPolicy, putBehind, tidyKeys, waitForTurn } from './order.js'
import { executorOn, hasOneConnection, outsideRequests, sharedQueue } from './queue.js'
import { settlementOn } from './settlement.js'
import { type InputOf, type OutputOf, schemaOf, storablePayload, type Topics } from './topics.js'
import { type OutboxWorker, startWorking } from './worker.js'

/** How an outbox is set up. */
export interface OutboxOptions<Db extends PostgresDatabase, Given extends Topics> {
  /** The client whose transactions messages are sent in. */
  db: Db
  topics: Given
  /**
   * Topics whose messages are handled one after the other, per `orderKey`, and what happens to those behind one that
   * failed for good: `'block'` holds them until somebody redrives or discards it, `'skip'` takes the next. Default none.
   */
  order?: { readonly [Topic in keyof Given]?: OrderPolicy }
  /**
   * Where pg-boss connects for its own work, when `db` is no Pool of pg and no PGlite: it brings a small pool of its
   * own. Default `DATABASE_URL`.
   */
  connectionString?: string
  /** The schema that pg-boss keeps its tables in: letters, digits and `_`. Default `pgboss`. */
  schema?: string
  /** How often a message is tried again before it goes to the dead letter queue. Default 5. */
  retryLimit?: number
  /** The longest wait before another try, in seconds. It is random, of up to 2, 4, 8 …. Default 300. */
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
  /** Among messages of the same key the order is kept: needed where the topic keeps one (`order`). */
  orderKey?: string
  /** Not before that time, or so many seconds from now. */
  startAfter?: Date | number
}

/** How a topic is worked off. */
export interface WorkTopicsOptions {
  /** Handlers that run at once, for each topic. Each has a connection of the client while it completes. Default 1. */
  concurrency?: number
  /** How often the queue is asked when there was nothing, in seconds. Default 0.5. */
  pollingIntervalSeconds?: number
}

/** How what is there is worked off. */
export interface DrainOptions {
  /**
   * No message is begun after so many milliseconds. The signal of one that runs is aborted then; a second later it is
   * given back, and the attempt does not count. Default 10,000.
   */
  deadlineMs?: number
}

type HandlersOf<Given extends Topics, Tx> = { [Topic in keyof Given]?: Handler<OutputOf<Given[Topic]>, Tx> }

export interface Outbox<Db extends PostgresDatabase, Given extends Topics> {
  /**
   * Sends a message in the caller's transaction: it is there when that commits, and never was when it rolls back.
   *
   * @returns the message's ID, or undefined when the same key has been sent before.
   * @throws {ThroughlineError} `OUTBOX_TOPIC_UNKNOWN`, `OUTBOX_PAYLOAD_INVALID`, `OUTBOX_ORDER_KEY_MISSING`: nothing
   * was sent.
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

/**
 * @throws {TypeError} for a client that is none of Postgres, or an option out of range.
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
  const { db, topics, schema = 'pgboss' } = options
  const { retryLimit = 5, retryDelayMaxSeconds = 300, expireInSeconds = 60 } = options
  const order: Readonly<Record<string, OrderPolicy | undefined>> = options.order ?? {}
  assertOptions({ schema, topics, order, retryLimit, retryDelayMaxSeconds, expireInSeconds })
  const database = databaseOf('createOutbox', db)
  const queue = sharedQueue({
    db,
    order,
    schema,
    retryLimit,
    retryDelayMaxSeconds,
    expireInSeconds,
    topics: Object.keys(topics),
    connectionString: options.connectionString,
    pgBoss: options.pgBoss,
  })
  const working = new Set<OutboxWorker>()

  /** One topic, as its handler works it off. @throws {ThroughlineError} `OUTBOX_TOPIC_UNKNOWN` */
  function workshopOf(boss: PgBoss, topic: string, handlers: object): Workshop {
    const policy = order[topic]
    const setUp = {
      database,
      client: db,
      schema: schemaOf(topics, topic),
      handler: (handlers as Record<string, Handler<unknown, unknown>>)[topic] as Handler<unknown, unknown>,
      ...settlementOn({ boss, database, schema, topic, policy }),
    }
    const { executeSql } = executorOn(database, 'client')
    return {
      topic,
      async tidy() {
        if (policy !== undefined) await tidyKeys(executeSql, { schema, topic, policy })
      },
      // Polls leave no spans: most find nothing, and one for each would bury the traces that matter.
      take: (most) =>
        untraced(() => boss.fetch(topic, { includeMetadata: true, batchSize: most })) as Promise<QueuedJob[]>,
      attempt: (job, deadline) =>
        attemptMessage(job, deadline === undefined ? setUp : { ...setUp, deadline }),
    }
  }

  /** The queue, for a transaction that has a connection: were there no other, it would wait for ever. */
  async function startedBeside(): Promise<PgBoss> {
    if (queue.isStarted()) return queue.started()
    if (hasOneConnection(db)) throw notStartedError()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(notStartedError()), MAX_START_MS)
    })
    return Promise.race([queue.started(), late]).finally(() => clearTimeout(timer))
  }

  return {
    async start() {
      await queue.started()
    },
    async stop() {
      await Promise.all([...working].map((worker) => worker.stop()))
      await queue.stop()
    },
    async send(tx, topic, payload, { key, orderKey, startAfter } = {}) {
      const stored = await storablePayload(schemaOf(topics, topic), topic, payload)
      assertOrderKey(topic, order[topic], orderKey, startAfter)
      assertStartAfter(startAfter)
      const boss = await startedBeside()
      const place = orderKey === undefined ? undefined : { schema, topic, orderKey }
      if (place !== undefined) await waitForTurn(database, tx, place)
      const id = messageIdOf(topic, key)
      const sent = await boss.send(topic, envelopeOf(stored), {
        db: executorOn(database, tx),
        ...(id === undefined ? {} : { id }),
        ...(orderKey === undefined ? {} : { singletonKey: orderKey }),
        ...(startAfter === undefined ? {} : { startAfter }),
      })
      if (sent === null) return undefined
      if (place !== undefined) await putBehind(database, tx, { ...place, id: sent })
      return sent
    },
    async work(handlers, { concurrency = 1, pollingIntervalSeconds = 0.5 } = {}) {
      assertWorkOptions(concurrency, pollingIntervalSeconds)
      const boss = await queue.started()
      // All of them before any is begun: one that is unknown leaves nothing running.
      const workshops = Object.keys(handlers).map((topic) => workshopOf(boss, topic, handlers))
      const workers = outsideRequests(() =>
        workshops.map(({ topic, tidy, take, attempt }) =>
          startWorking({
            topic,
            hands: concurrency,
            pollingIntervalMs: pollingIntervalSeconds * 1000,
            tidy,
            take,
            handle: attempt,
          }),
        ),
      )
      const unwatch = watchQueue({
        schema,
        topics: workshops.map(({ topic }) => ({ topic, policy: order[topic] })),
        rows: (text, values) => database.rows('client', text, values),
      })
      const worker: OutboxWorker = {
        async stop() {
          unwatch()
          await Promise.all(workers.map((each) => each.stop()))
          working.delete(worker)
        },
      }
      working.add(worker)
      return worker
    },
    async drain(handlers, { deadlineMs = 10_000 } = {}) {
      assertDeadline(deadlineMs)
      const boss = await queue.started()
      const workshops = Object.keys(handlers).map((topic) => workshopOf(boss, topic, handlers))
      return outsideRequests(() => drainAll(workshops, deadlineMs))
    },
  }
}

/** One topic, as it is worked off. */
interface Workshop {
  topic: string
  tidy(): Promise<void>
  take(most: number): Promise<QueuedJob[]>
  attempt(job: QueuedJob, deadline?: AbortSignal): Promise<AttemptOutcome>
}

/** Takes one of each topic in turn, until none has any, or the time is over. */
async function drainAll(workshops: readonly Workshop[], deadlineMs: number) {
  const deadline = AbortSignal.timeout(deadlineMs)
  const endMs = performance.now() + deadlineMs
  const counts = { handled: 0, failed: 0, isEmpty: true }
  for (const { tidy } of workshops) await tidy()
  for (let left = workshops; left.length > 0; ) {
    const withMore: Workshop[] = []
    for (const workshop of left) {
      if (performance.now() >= endMs) return { ...counts, isEmpty: false }
      const [job] = await workshop.take(1)
      if (job === undefined) continue
      withMore.push(workshop)
      const outcome = await workshop.attempt(job, deadline)
      if (outcome === 'handled') counts.handled += 1
      if (outcome === 'retried' || outcome === 'dead') counts.failed += 1
    }
    left = withMore
  }
  return counts
}

/** How long a transaction waits for a queue that is being started. */
const MAX_START_MS = 5_000

function notStartedError(): ThroughlineError {
  return new ThroughlineError('OUTBOX_NOT_STARTED', 'A message was sent before the outbox was started.', {
    why: 'To start it needs a connection, and the transaction that sends has the one there is, or others have the rest.',
    fix: 'Call await outbox.start() before the first transaction, as in register() of instrumentation.ts. In Next it counts for all bundles that share the client: keep that on globalThis.',
  })
}
