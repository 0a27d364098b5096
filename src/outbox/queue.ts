/** The queue that an outbox lies in: pg-boss 12 (https://pgboss.io), on the app's own client where that can be. */
import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import type { ConstructorOptions, PgBoss } from 'pg-boss'
import { outsideRuns } from '../context/active-run.js'
import { contextStorage, processWide } from '../context/index.js'
import { ThroughlineError } from '../errors.js'
import { logger } from '../logging/index.js'
import { outsideTransactions } from '../postgres/active-transaction.js'
import { type Database, databaseOf, type PgPool, type PostgresDatabase } from '../postgres/database.js'
import { untraced } from '../telemetry/untraced.js'
import { RETENTION_SECONDS } from './options.js'
import { ORDERED, type OrderPolicy, UNORDERED } from './order.js'

/** What is asked of the queue. */
export interface QueueSettings {
  db: PostgresDatabase
  topics: string[]
  order: Readonly<Record<string, OrderPolicy | undefined>>
  connectionString: string | undefined
  schema: string
  retryLimit: number
  retryDelayMaxSeconds: number
  expireInSeconds: number
  pgBoss: ConstructorOptions | undefined
}

/**
 * Runs code outside every request, transaction and run: what is started there, and goes on, bears the ID of none. Next
 * loads the app's modules within the first request that needs them.
 */
export function outsideRequests<T>(fn: () => T): T {
  return contextStorage.run(undefined as never, () =>
    outsideTransactions(() => outsideRuns(() => context.with(ROOT_CONTEXT, fn))),
  )
}

/** Runs pg-boss' statements on a transaction, or on the client. What it does is a span of its own; they would be a second. */
export function executorOn(database: Database<unknown>, on: unknown) {
  return {
    executeSql: async (text: string, values: unknown[] = []) => ({
      rows: await untraced(() => database.rows(on, text, values)),
    }),
  }
}

/** Where a message goes that failed for good. */
export function deadLetterOf(topic: string): string {
  return `${topic}.dead`
}

/** How often trouble with the queue's own upkeep is told, at most. */
const TROUBLE_EVERY_MS = 60_000

/** The queue of one outbox, started when it is first needed. */
export interface SharedQueue {
  started(): Promise<PgBoss>
  isStarted(): boolean
  stop(): Promise<void>
}

/** A queue, and the outboxes that use it. */
interface Entry {
  starting: Promise<PgBoss>
  isStarted: boolean
  users: Set<object>
}

/** By the app's client, then by what is asked of the queue. */
const queues = processWide('outbox.queues', () => new WeakMap<object, Map<string, Entry>>())

/**
 * Next loads a module once per bundle: outboxes that are made alike, on one client, are one queue, which one of them
 * may start for the others. It ends with the last of them.
 */
export function sharedQueue(settings: QueueSettings): SharedQueue {
  const { db, ...rest } = settings
  const ofClient = queues.get(db) ?? new Map<string, Entry>()
  queues.set(db, ofClient)
  const key = JSON.stringify(rest)
  const user = {}

  function open(): Entry {
    const entry: Entry = {
      starting: outsideRequests(() => openQueue(settings)),
      isStarted: false,
      users: new Set(),
    }
    ofClient.set(key, entry)
    entry.starting.then(
      () => {
        entry.isStarted = true
      },
      () => {
        if (ofClient.get(key) === entry) ofClient.delete(key)
      },
    )
    return entry
  }

  return {
    started() {
      const entry = ofClient.get(key) ?? open()
      entry.users.add(user)
      return entry.starting
    },
    isStarted: () => ofClient.get(key)?.isStarted === true,
    async stop() {
      const entry = ofClient.get(key)
      if (entry === undefined || !entry.users.delete(user) || entry.users.size > 0) return
      ofClient.delete(key)
      const boss = await entry.starting.catch(() => undefined)
      await boss?.stop({ graceful: true })
    },
  }
}

/** Connects, and makes pg-boss' tables and the queues where they are missing. Its upkeep leaves no spans. */
async function openQueue(settings: QueueSettings): Promise<PgBoss> {
  const pgBoss = await importPgBoss()
  const boss = new pgBoss.PgBoss({
    ...settings.pgBoss,
    schema: settings.schema,
    ...connectionOf(settings.db, settings.connectionString, pgBoss, 'createOutbox'),
  })
  // Without a listener it would end the process.
  boss.on('error', tellTrouble())
  try {
    await untraced(async () => {
      await boss.start()
      await makeQueues(boss, settings)
    })
    return boss
  } catch (error) {
    await boss.stop({ graceful: false }).catch(() => {})
    throw error
  }
}

async function makeQueues(boss: PgBoss, settings: QueueSettings): Promise<void> {
  const names = settings.topics.flatMap((topic) => [topic, deadLetterOf(topic)])
  const found = new Map((await boss.getQueues(names)).map((queue) => [queue.name, queue]))
  for (const topic of settings.topics) {
    const order = settings.order[topic]
    const policy = order === undefined ? UNORDERED : ORDERED
    // A failed message of a topic that blocks stays at the head of its key.
    const deadLetter = order === 'block' ? null : deadLetterOf(topic)
    const queue = found.get(topic)
    if (queue !== undefined && (queue.policy !== policy || (queue.deadLetter ?? null) !== deadLetter))
      throw orderChangedError(topic)
    if (deadLetter !== null) {
      if (!found.has(deadLetter)) await boss.createQueue(deadLetter, { retentionSeconds: RETENTION_SECONDS })
      else await boss.updateQueue(deadLetter, { retentionSeconds: RETENTION_SECONDS })
    }
    // A message takes these from its queue as it is sent; one that was made before may have had others.
    const options = {
      retryLimit: settings.retryLimit,
      retryBackoff: true,
      retryDelay: 1,
      retryDelayMax: settings.retryDelayMaxSeconds,
      expireInSeconds: settings.expireInSeconds,
      retentionSeconds: RETENTION_SECONDS,
    }
    if (queue === undefined)
      await boss.createQueue(topic, { policy, ...options, ...(deadLetter === null ? {} : { deadLetter }) })
    else await boss.updateQueue(topic, options)
  }
}

/** What pg-boss does its own work on. It sends several statements at once, with transactions among them. */
export function connectionOf(
  db: PostgresDatabase | undefined,
  connectionString: string | undefined = process.env.DATABASE_URL,
  { fromPglite }: typeof import('pg-boss'),
  caller: string,
): ConstructorOptions {
  const client = driverOf(db)
  if (client === undefined && connectionString !== undefined) return { connectionString, max: 2 }
  if (isPglite(client)) return { db: fromPglite(client as never), backend: 'pglite' }
  if (isPgPool(client)) {
    return { db: executorOn(databaseOf(caller, client), 'client') }
  }
  if (connectionString !== undefined) return { connectionString, max: 4 }
  throw new TypeError(
    `${caller}: "connectionString" must say where pg-boss connects, since "db" is no Pool of pg and no PGlite. DATABASE_URL is not set.`,
  )
}

/** The client that a Drizzle database stands on; any other is its own. */
function driverOf(db: PostgresDatabase | undefined): unknown {
  return (db as { $client?: unknown } | undefined)?.$client ?? db
}

/** True for a database whose one connection the transaction has that a message is sent in. */
export function hasOneConnection(db: PostgresDatabase): boolean {
  const client = driverOf(db)
  return isPglite(client) || (client as { options?: { max?: unknown } }).options?.max === 1
}

function isPglite(client: unknown): boolean {
  return typeof (client as { execProtocol?: unknown } | undefined)?.execProtocol === 'function'
}

function isPgPool(client: unknown): client is PgPool {
  const { totalCount, connect } = (client ?? {}) as Partial<PgPool>
  return typeof totalCount === 'number' && typeof connect === 'function'
}

function tellTrouble(): (error: unknown) => void {
  let toldAt = Number.NEGATIVE_INFINITY
  return (error) => {
    if (performance.now() - toldAt < TROUBLE_EVERY_MS) return
    toldAt = performance.now()
    logger.warn({ err: error }, 'outbox upkeep failed')
  }
}

/** pg-boss, which an app installs when it has an outbox. */
export async function importPgBoss(): Promise<typeof import('pg-boss')> {
  try {
    return await import('pg-boss')
  } catch (cause) {
    if (!/MODULE_NOT_FOUND$/.test(String((cause as { code?: unknown }).code))) throw cause
    throw new ThroughlineError('PACKAGE_MISSING', 'The outbox needs pg-boss, which is not installed.', {
      why: 'It is an optional peer of throughline, and needs Node 22.12 or later.',
      fix: 'Install it: npm install pg-boss@12',
      cause,
    })
  }
}

function orderChangedError(topic: string): ThroughlineError {
  return new ThroughlineError('OUTBOX_ORDER_CHANGED', `The queue of "${topic}" keeps another order.`, {
    why: 'Whether a queue keeps an order is said when it is made, and it holds messages that were sent under that.',
    fix: 'Name a new topic for the new order, and work the old one off; or delete the empty queue (deleteQueue of pg-boss).',
  })
}
