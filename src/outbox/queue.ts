/** The queue that an outbox lies in: pg-boss 12 (https://pgboss.io), on the app's own client where that can be. */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { ConstructorOptions, PgBoss } from 'pg-boss'
import { processWide } from '../context/index.js'
import { ThroughlineError } from '../errors.js'
import { logger } from '../logging/index.js'
import { databaseOf, type PgPool, type PostgresDatabase } from '../postgres/database.js'
import { untraced } from '../telemetry/untraced.js'
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

/** Runs code outside every request: what is started there does not bear the ID of the one that came first. */
export type OutsideRequests = <T>(fn: () => T) => T

export function outsideRequests(): OutsideRequests {
  return AsyncLocalStorage.snapshot()
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

/** By the app's client, then by what is asked of the queue. */
const queues = processWide('outbox.queues', () => new WeakMap<object, Map<string, Promise<PgBoss>>>())

/**
 * Next loads a module once per bundle: outboxes that are made alike, on one client, are one queue, which one of them
 * may start for the others.
 */
export function sharedQueue(settings: QueueSettings): SharedQueue {
  const { db, ...rest } = settings
  const ofClient = queues.get(db) ?? new Map<string, Promise<PgBoss>>()
  queues.set(db, ofClient)
  const key = JSON.stringify(rest)
  const outside = outsideRequests()
  return {
    started() {
      const known = ofClient.get(key)
      if (known !== undefined) return known
      const starting = outside(() => openQueue(settings))
      ofClient.set(key, starting)
      starting.catch(() => ofClient.delete(key))
      return starting
    },
    isStarted: () => ofClient.has(key),
    async stop() {
      const starting = ofClient.get(key)
      ofClient.delete(key)
      const boss = await starting?.catch(() => undefined)
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
    ...connectionOf(settings.db, settings.connectionString, pgBoss),
  })
  // Without a listener it would end the process.
  boss.on('error', tellTrouble())
  await untraced(() => boss.start())
  try {
    await untraced(() => makeQueues(boss, settings))
  } catch (error) {
    await boss.stop({ graceful: false })
    throw error
  }
  return boss
}

async function makeQueues(boss: PgBoss, settings: QueueSettings): Promise<void> {
  const names = settings.topics.flatMap((topic) => [topic, deadLetterOf(topic)])
  const found = new Map((await boss.getQueues(names)).map((queue) => [queue.name, queue]))
  for (const topic of settings.topics) {
    const order = settings.order[topic]
    const policy = order === undefined ? UNORDERED : ORDERED
    const queue = found.get(topic)
    if (queue !== undefined && queue.policy !== policy) throw orderChangedError(topic)
    // A failed message of a topic that blocks stays at the head of its key.
    const deadLetter = order === 'block' ? null : deadLetterOf(topic)
    if (deadLetter !== null && !found.has(deadLetter)) await boss.createQueue(deadLetter)
    // A message takes these from its queue as it is sent; one that was made before may have had others.
    const options = {
      retryLimit: settings.retryLimit,
      retryBackoff: true,
      retryDelay: 1,
      retryDelayMax: settings.retryDelayMaxSeconds,
      expireInSeconds: settings.expireInSeconds,
    }
    if (queue === undefined)
      await boss.createQueue(topic, { policy, ...options, ...(deadLetter === null ? {} : { deadLetter }) })
    else await boss.updateQueue(topic, { ...options, deadLetter })
  }
}

/** What pg-boss does its own work on. It sends several statements at once, with transactions among them. */
export function connectionOf(
  db: PostgresDatabase | undefined,
  connectionString: string | undefined = process.env.DATABASE_URL,
  { fromPglite }: typeof import('pg-boss'),
): ConstructorOptions {
  const client = driverOf(db)
  if (client === undefined && connectionString !== undefined) return { connectionString, max: 2 }
  if (isPglite(client)) return { db: fromPglite(client as never), backend: 'pglite' }
  if (isPgPool(client)) {
    const { rows } = databaseOf('createOutbox', client)
    const executeSql = async (text: string, values?: unknown[]) => ({
      rows: await untraced(() => rows('client', text, values)),
    })
    return { db: { executeSql } }
  }
  if (connectionString !== undefined) return { connectionString, max: 4 }
  throw new TypeError(
    'createOutbox: "connectionString" must say where pg-boss connects, since "db" is no Pool of pg and no PGlite. DATABASE_URL is not set.',
  )
}

/** The client that a Drizzle database stands on; any other is its own. */
function driverOf(db: PostgresDatabase | undefined): unknown {
  return (db as { $client?: unknown } | undefined)?.$client ?? db
}

/** True for a database whose one connection the transaction has that a message is sent in. */
export function hasOneConnection(db: PostgresDatabase): boolean {
  return isPglite(driverOf(db))
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
