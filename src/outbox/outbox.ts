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
import { type AttemptSetUp, attemptMessage, type Handler } from './attempt.js'
import { envelopeOf, messageIdOf, type QueuedJob, withFailure } from './message.js'
import { watchQueue } from './metrics.js'
import { assertOrderKey, freeSkippedKeys, type OrderPolicy, putBehind, waitForTurn } from './order.js'
import { hasOneConnection, outsideRequests, sharedQueue } from './queue.js'
import { type InputOf, type OutputOf, schemaOf, type Topics, validPayload } from './topics.js'
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
  /** Handlers that run at once, for each topic. Each has a connection of the client while it runs. Default 1. */
  concurrency?: number
  /** How often the queue is asked when there was nothing, in seconds. Default 0.5. */
  pollingIntervalSeconds?: number
}

/** How what is there is worked off. */
export interface DrainOptions {
  /** No message is begun after so many milliseconds; the signal of one that runs is aborted then. Default 10,000. */
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
  type Tx = TransactionOf<Db>
  const {
    db,
    topics,
    schema = 'pgboss',
    retryLimit = 5,
    retryDelayMaxSeconds = 300,
    expireInSeconds = 60,
  } = options
  const order: Readonly<Record<string, OrderPolicy | undefined>> = options.order ?? {}
  assertOptions(schema, topics, order)
  const database = databaseOf('createOutbox', db)
  const outside = outsideRequests()
  // What is done is a span of pg-boss; its statements would be a second one for each.
  const on = (tx: unknown) => ({
    db: {
      executeSql: async (text: string, values: unknown[] = []) => ({
        rows: await untraced(() => database.rows(tx, text, values)),
      }),
    },
  })
  const queue = sharedQueue({
    ...{ db, order, schema, retryLimit, retryDelayMaxSeconds, expireInSeconds },
    topics: Object.keys(topics),
    connectionString: options.connectionString,
    pgBoss: options.pgBoss,
  })

  /** Makes attempts at messages of a topic. */
  function attemptsAt(boss: PgBoss, topic: string, handlers: HandlersOf<Given, Tx>) {
    const setUp: AttemptSetUp<unknown> = {
      ...{ database, client: db, schema: schemaOf(topics, topic) },
      handler: handlers[topic] as Handler<unknown, unknown>,
      async complete(job, where, done) {
        const { affected } = (await boss.complete(topic, job, done, on(where))) as { affected: number }
        return affected === 1
      },
      fail: (job, envelope, failure) =>
        database.transaction(async (tx) => {
          await boss.fail(topic, job, failure, on(tx))
          if (job.retryCount < job.retryLimit) {
            const startAfter = randomDelaySeconds(job)
            await boss.update(topic, withFailure(envelope, failure), { id: job.id, startAfter, ...on(tx) })
          } else if (order[topic] === 'skip') await boss.deleteJob(topic, job.id, on(tx))
        }),
    }
    return (job: QueuedJob, deadline?: AbortSignal) =>
      attemptMessage(job, deadline === undefined ? setUp : { ...setUp, deadline })
  }

  // Polls leave no spans: most find nothing, and one for each would bury the traces that matter.
  const take = (boss: PgBoss, topic: string, most: number) =>
    untraced(() => boss.fetch(topic, { includeMetadata: true, batchSize: most })) as Promise<QueuedJob[]>

  return {
    async start() {
      await queue.started()
    },
    stop: () => queue.stop(),
    async send(tx, topic, payload, { key, orderKey, startAfter } = {}) {
      const valid = await validPayload(schemaOf(topics, topic), topic, payload)
      assertOrderKey(topic, order[topic], orderKey)
      if (!queue.isStarted() && hasOneConnection(db)) throw notStartedError()
      const boss = await queue.started()
      const place = orderKey === undefined ? undefined : { schema, topic, orderKey }
      if (place !== undefined) await waitForTurn(database, tx, place)
      const id = messageIdOf(topic, key)
      const sent = await boss.send(topic, envelopeOf(valid), {
        ...on(tx),
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
      const topicsWorked = Object.keys(handlers)
      const workers = topicsWorked.map((topic) => {
        const attempt = attemptsAt(boss, topic, handlers)
        const sweep = order[topic] === 'skip' ? sweeperOf(boss, topic) : async () => {}
        return outside(() =>
          startWorking({
            topic,
            hands: concurrency,
            pollingIntervalMs: pollingIntervalSeconds * 1000,
            handle: attempt,
            async take(most) {
              await sweep()
              return take(boss, topic, most)
            },
          }),
        )
      })
      const unwatch = watchQueue({
        schema,
        topics: topicsWorked,
        rows: (text, values) => database.rows('client', text, values),
      })
      return {
        async stop() {
          unwatch()
          await Promise.all(workers.map((worker) => worker.stop()))
        },
      }
    },
    async drain(handlers, { deadlineMs = 10_000 } = {}) {
      const boss = await queue.started()
      const deadline = AbortSignal.timeout(deadlineMs)
      const endMs = performance.now() + deadlineMs
      const counts = { handled: 0, failed: 0, isEmpty: true }
      for (const topic of Object.keys(handlers)) {
        const attempt = attemptsAt(boss, topic, handlers)
        if (order[topic] === 'skip') await untraced(() => freeSkippedKeys(boss, topic))
        for (;;) {
          if (performance.now() >= endMs) return { ...counts, isEmpty: false }
          const [job] = await take(boss, topic, 1)
          if (job === undefined) break
          counts[(await attempt(job, deadline)) ? 'handled' : 'failed'] += 1
        }
      }
      return counts
    },
  }
}

/** How often keys are looked for that a killed process left blocked. */
const SWEEP_EVERY_MS = 15_000

function sweeperOf(boss: PgBoss, topic: string): () => Promise<void> {
  let sweptAt = Number.NEGATIVE_INFINITY
  return async () => {
    if (performance.now() - sweptAt < SWEEP_EVERY_MS) return
    sweptAt = performance.now()
    await untraced(() => freeSkippedKeys(boss, topic))
  }
}

/** Full jitter: any wait up to the one that doubles, so that what failed together does not come back together. */
function randomDelaySeconds({ retryCount, retryDelayMax }: QueuedJob): number {
  return (
    Math.random() * Math.min(retryDelayMax ?? Number.POSITIVE_INFINITY, 2 ** Math.min(retryCount + 1, 16))
  )
}

/** Names of schemas stand in statements as they are. */
const SCHEMA_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,49}$/

function assertOptions(schema: string, topics: Topics, order: Record<string, unknown>): void {
  if (!SCHEMA_NAME.test(schema))
    throw new TypeError(
      'createOutbox: "schema" must be 1–50 letters, digits and _, and begin with none of the digits.',
    )
  for (const [topic, policy] of Object.entries(order)) {
    if (!Object.hasOwn(topics, topic))
      throw new TypeError(`createOutbox: "order" names "${topic}", which is none of its topics.`)
    if (policy !== undefined && policy !== 'block' && policy !== 'skip')
      throw new TypeError(`createOutbox: "order" of "${topic}" must be 'block' or 'skip'.`)
  }
}

function assertWorkOptions(concurrency: number, pollingIntervalSeconds: number): void {
  if (!Number.isInteger(concurrency) || concurrency < 1)
    throw new TypeError(
      `outbox.work: "concurrency" must be a whole number from 1 on, received ${concurrency}.`,
    )
  if (!(Number.isFinite(pollingIntervalSeconds) && pollingIntervalSeconds > 0))
    throw new TypeError(
      `outbox.work: "pollingIntervalSeconds" must be a number above 0, received ${pollingIntervalSeconds}.`,
    )
}

// Its one connection is the transaction's, for which the queue's tables would wait for ever.
function notStartedError(): ThroughlineError {
  return new ThroughlineError('OUTBOX_NOT_STARTED', 'A message was sent before the outbox was started.', {
    why: 'PGlite has one connection, and the transaction that sends has it.',
    fix: 'Call await outbox.start() before the transaction, as in instrumentation.ts. It counts for all bundles of Next that share the client: keep that on globalThis.',
  })
}
