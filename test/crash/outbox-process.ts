/**
 * An app that places orders and works off their charges, until it is killed: started by `outbox.test.ts`.
 * `node outbox-process.ts <set-up as JSON>`. Prints `ready`, and `paid` when nothing is left to charge.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { PGlite } from '@electric-sql/pglite'
import pg from 'pg'
import { createOutbox, defineTopics, type PayloadSchema } from 'throughline/outbox'
import { transaction } from 'throughline/transaction'
import type { Step } from './outbox-steps.ts'

export interface SetUp {
  /** Of a server, or the folder of a PGlite. */
  database: { url: string } | { folder: string }
  /** The payment sandbox. */
  sandboxUrl: string
  /** False: only what is there is worked off. */
  isSelling: boolean
  /** Kills itself there, at that occurrence. */
  killAt?: { step: Step; occurrence: number }
}

const setUp: SetUp = JSON.parse(process.argv[2] ?? '{}')

const reached = new Map<Step, number>()

/** Ends the process, as `kill -9` does, where it was told to. */
function at(step: Step): void {
  const occurrence = (reached.get(step) ?? 0) + 1
  reached.set(step, occurrence)
  if (setUp.killAt?.step === step && setUp.killAt.occurrence === occurrence)
    process.kill(process.pid, 'SIGKILL')
}

const charge: PayloadSchema<{ orderId: string }> = {
  '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as { orderId: string } }) },
}

const db = await openDatabase()
const outbox = createOutbox({
  db,
  topics: defineTopics({ 'payment.charge': charge }),
  retryLimit: 10_000,
  retryDelayMaxSeconds: 1,
  expireInSeconds: 2,
  // What a killed worker had in hand is given to another as soon as it has expired.
  pgBoss: { superviseIntervalSeconds: 1, monitorIntervalSeconds: 1 },
})
await untilItWorks(() => outbox.start())
await outbox.work(
  {
    'payment.charge': async ({ orderId }, { complete, messageId, signal }) => {
      at('taken')
      const headers = { 'idempotency-key': messageId }
      const response = await fetch(setUp.sandboxUrl, { method: 'POST', headers, body: orderId, signal })
      at('called')
      if (!response.ok) throw new Error(`The sandbox answered ${response.status}.`)
      await complete(async (tx) => {
        await tx.query('UPDATE orders SET paid = true WHERE id = $1', [orderId])
        at('written')
      })
      at('done')
    },
  },
  { concurrency: 4, pollingIntervalSeconds: 0.1 },
)
process.stdout.write('ready\n')

// What fails while the database is away is not tried again: the customer has seen an error.
while (setUp.isSelling) {
  await placeOrder().catch(() => sleep(50))
  at('committed')
  await sleep(Math.random() * 60)
}

for (;;) {
  const { rows } = await db.query('SELECT count(*)::int AS n FROM orders WHERE NOT paid')
  if ((rows[0] as { n: number }).n === 0) break
  await sleep(200)
}
process.stdout.write('paid\n')
// Killed by the test; a PGlite keeps its folder in order by closing it.
await outbox.stop()
if (db instanceof PGlite) await db.close()
process.exit()

async function placeOrder(): Promise<void> {
  const isGivenUp = Math.random() < 0.2
  await transaction(db, async (tx) => {
    const orderId = randomUUID()
    await tx.query(`INSERT INTO ${isGivenUp ? 'given_up' : 'orders'} (id) VALUES ($1)`, [orderId])
    at('inserted')
    await outbox.send(tx, 'payment.charge', { orderId })
    at('sent')
    if (isGivenUp) throw new Error('given up')
  })
}

/** A pool and a PGlite have in common what is asked of them here; the types of the first stand for both. */
async function openDatabase(): Promise<pg.Pool> {
  if ('folder' in setUp.database) return (await PGlite.create(setUp.database.folder)) as unknown as pg.Pool
  const { query } = pg.Client.prototype
  // A transaction of a handler is about to commit, or its commit is on its way.
  pg.Client.prototype.query = function (this: pg.Client, ...args: never[]) {
    const isCommit = (args[0] as unknown) === 'COMMIT'
    if (isCommit) at('committing')
    const answer = (query as (...all: never[]) => never).apply(this, args)
    if (isCommit) setImmediate(() => at('commit sent'))
    return answer
  } as typeof query
  const pool = new pg.Pool({ connectionString: setUp.database.url, max: 8 })
  pool.on('error', () => {})
  return pool
}

async function untilItWorks(work: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      return await work()
    } catch {
      await sleep(100)
    }
  }
}
