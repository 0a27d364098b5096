/**
 * An app that places orders and works off their charges, until it is killed: started by `outbox.test.ts`.
 * `node outbox-process.ts <set-up as JSON>`. Prints `ready`, and `paid` when nothing is left to charge.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createOutbox, defineTopics, type PayloadSchema } from 'throughline/outbox'
import { transaction } from 'throughline/transaction'

export interface SetUp {
  databaseUrl: string
  /** The payment sandbox. */
  sandboxUrl: string
  /** False: only what is there is worked off. */
  isSelling: boolean
}

const setUp: SetUp = JSON.parse(process.argv[2] ?? '{}')

const charge: PayloadSchema<{ orderId: string }> = {
  '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as { orderId: string } }) },
}

const pool = new pg.Pool({ connectionString: setUp.databaseUrl, max: 8 })
pool.on('error', () => {})
const outbox = createOutbox({
  db: pool,
  topics: defineTopics({ 'payment.charge': charge }),
  retryLimit: 10_000,
  retryDelayMaxSeconds: 1,
  expireInSeconds: 2,
  // What a killed worker had in hand is given to another as soon as it has expired.
  pgBoss: { superviseIntervalSeconds: 1, monitorIntervalSeconds: 1 },
})
await outbox.start()
await outbox.work(
  {
    'payment.charge': async ({ orderId }, { complete, messageId }) => {
      const headers = { 'idempotency-key': messageId }
      const response = await fetch(setUp.sandboxUrl, { method: 'POST', headers, body: orderId })
      if (!response.ok) throw new Error(`The sandbox answered ${response.status}.`)
      await complete((tx) => tx.query('UPDATE orders SET paid = true WHERE id = $1', [orderId]))
    },
  },
  { concurrency: 4 },
)
process.stdout.write('ready\n')

while (setUp.isSelling) {
  const isGivenUp = Math.random() < 0.2
  await transaction(pool, async (tx) => {
    const orderId = randomUUID()
    await tx.query(`INSERT INTO ${isGivenUp ? 'given_up' : 'orders'} (id) VALUES ($1)`, [orderId])
    await outbox.send(tx, 'payment.charge', { orderId })
    if (isGivenUp) throw new Error('given up')
  }).catch((error: Error) => {
    if (error.message !== 'given up') throw error
  })
  await sleep(Math.random() * 60)
}

for (;;) {
  const { rows } = await pool.query('SELECT count(*)::int AS n FROM orders WHERE NOT paid')
  if (rows[0].n === 0) break
  await sleep(200)
}
process.stdout.write('paid\n')
