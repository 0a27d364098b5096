/** Outboxes that send and handle the same messages, on the same Postgres. */
import type { Pool, PoolClient } from 'pg'
import type { PgBoss } from 'pg-boss'
import { built } from '../clients/contestants.ts'
import { registerProvider } from '../clients/spans.ts'

export interface Setting {
  pool: Pool
  url: string
  schema: string
  /** Handlers that run at once. */
  hands: number
}

export interface Outbox {
  /** Writes an order, and sends a message about it, in one transaction. */
  send(orderId: number): Promise<void>
  /** Writes a row for each message, or nothing. Returns how to end it. */
  work(isWriting: boolean, onHandled: (orderId: number) => void): Promise<() => Promise<void>>
}

export interface Contestant {
  open(setting: Setting): Promise<Outbox>
}

const TOPIC = 'charge'
const ORDER = 'INSERT INTO orders (id) VALUES ($1)'
const EFFECT = 'INSERT INTO effects (order_id) VALUES ($1)'

/** All of them ask so often where there was nothing. */
export const POLLING_SECONDS = 0.5

interface Payload {
  orderId: number
}

export const CONTESTANTS: Readonly<Record<string, Contestant>> = {
  'pg-boss': pgBoss('one by one'),
  'pg-boss in batches': pgBoss('in batches'),
  'pg-boss transactional': pgBoss('transactional'),
  throughline: { open: openTraced },
  'throughline not traced': { open: openThroughline },
}

/** Its telemetry is switched off. It would wait out its interval after each message: it is woken instead. */
function pgBoss(way: 'one by one' | 'in batches' | 'transactional'): Contestant {
  return {
    async open({ pool, url, schema, hands }) {
      const { PgBoss } = await import('pg-boss')
      const boss = new PgBoss({
        ...{ connectionString: url, schema, max: hands * 2 + 4 },
        openTelemetry: { enabled: false },
      })
      boss.on('error', () => {})
      await boss.start()
      await boss.createQueue(TOPIC, { retryLimit: 5, retryBackoff: true, expireInSeconds: 60 })
      return {
        async send(orderId) {
          await inTransaction(pool, async (tx) => {
            await tx.query(ORDER, [orderId])
            const db = { executeSql: (text: string, values: unknown[] = []) => tx.query(text, values) }
            await boss.send(TOPIC, { orderId }, { db })
          })
        },
        async work(isWriting, onHandled) {
          await (way === 'in batches' ? workInBatches : workOneByOne)()
          return () => boss.offWork(TOPIC, { wait: true })

          async function workInBatches(): Promise<void> {
            const options = {
              batchSize: hands,
              burstWhenBatchFull: true,
              pollingIntervalSeconds: POLLING_SECONDS,
            }
            await boss.work<Payload>(TOPIC, options, async (jobs) => {
              await Promise.all(
                jobs.map(({ data }) => (isWriting ? pool.query(EFFECT, [data.orderId]) : undefined)),
              )
              for (const { data } of jobs) onHandled(data.orderId)
            })
          }

          async function workOneByOne(): Promise<void> {
            for (let hand = 0; hand < hands; hand += 1) {
              let id = ''
              const options = {
                transactional: way === 'transactional',
                pollingIntervalSeconds: POLLING_SECONDS,
              }
              const handle = async (jobs: { data: Payload }[], tx?: PgBossDatabase) => {
                for (const { data } of jobs) {
                  if (isWriting && tx !== undefined) await tx.executeSql(EFFECT, [data.orderId])
                  else if (isWriting) await pool.query(EFFECT, [data.orderId])
                  onHandled(data.orderId)
                }
                boss.notifyWorker(id)
              }
              id = await boss.work(TOPIC, options as never, handle as never)
            }
          }
        },
      }
    },
  }
}

type PgBossDatabase = ReturnType<PgBoss['getDb']>

/** With all that `register()` sets up for spans. */
async function openTraced(setting: Setting): Promise<Outbox> {
  await trace()
  return openThroughline(setting)
}

/** Spans are made and batched; what exporting costs is left out. */
async function trace(): Promise<void> {
  const { correlateProvider } = await built<typeof import('../../instrumentation/tracer-provider.ts')>(
    'instrumentation/tracer-provider',
  )
  const { correlationIdGenerator } =
    await built<typeof import('../../src/telemetry/sdk-pieces.ts')>('src/telemetry/sdk-pieces')
  const hooks = await built<typeof import('../../src/clients/database/pg.ts')>('src/clients/database/pg')
  const { default: pg } = await import('pg')
  hooks.wrapPgClient(pg.Client.prototype as never)
  hooks.wrapPgPool(pg.Pool.prototype as never)
  registerProvider({
    isSampled: true,
    idGenerator: correlationIdGenerator(),
    decorate: (provider) => correlateProvider(provider, { nextInternals: false }),
  })
}

async function openThroughline({ pool, schema, hands }: Setting): Promise<Outbox> {
  const { createOutbox } = await built<typeof import('../../src/outbox/index.ts')>('src/outbox/index')
  const { transaction } =
    await built<typeof import('../../src/postgres/transaction.ts')>('src/postgres/transaction')
  const payload = {
    '~standard': {
      version: 1 as const,
      vendor: 'bench',
      validate: (value: unknown) => ({ value: value as Payload }),
    },
  }
  const outbox = createOutbox({ db: pool, topics: { [TOPIC]: payload }, schema })
  await outbox.start()
  return {
    async send(orderId) {
      await transaction(pool, async (tx) => {
        await tx.query(ORDER, [orderId])
        await outbox.send(tx, TOPIC, { orderId })
      })
    },
    async work(isWriting, onHandled) {
      const worker = await outbox.work(
        {
          [TOPIC]: async ({ orderId }, { complete }) => {
            if (isWriting) await complete((tx) => tx.query(EFFECT, [orderId]))
            onHandled(orderId)
          },
        },
        { concurrency: hands, pollingIntervalSeconds: POLLING_SECONDS },
      )
      return () => worker.stop()
    },
  }
}

async function inTransaction(pool: Pool, body: (tx: PoolClient) => Promise<void>) {
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await body(client)
    await client.query('COMMIT')
  } finally {
    client.release()
  }
}
