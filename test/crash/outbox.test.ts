/**
 * An app that is killed again and again while it sells: no message is lost, no charge is doubled, none is without its
 * order, and none is for an order that was rolled back. `THROUGHLINE_KILLS` says how often (default 25), and
 * `THROUGHLINE_SEED` repeats the moments of an earlier run.
 */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres } from '../support/postgres.ts'
import type { SetUp } from './outbox-process.ts'

const PROCESS = fileURLToPath(new URL('outbox-process.ts', import.meta.url))
const KILLS = Number(process.env.THROUGHLINE_KILLS ?? 25)
const SEED = Number(process.env.THROUGHLINE_SEED ?? randomInt(2 ** 31))

const server = await startPostgres()
const pool = new pg.Pool({ connectionString: server?.url })
pool.on('error', () => {})

/** Charges as a payment provider keeps them: one for each idempotency key. */
const charges = new Map<string, string>()
const sandbox = createServer(async (request, response) => {
  const orderId = await text(request)
  await sleep(Math.random() * 30)
  charges.set(String(request.headers['idempotency-key']), orderId)
  // Charged, but the answer is lost.
  response.statusCode = Math.random() < 0.1 ? 503 : 200
  response.end()
})

beforeAll(async () => {
  sandbox.listen(0, '127.0.0.1')
  await once(sandbox, 'listening')
  if (server === undefined) return
  await pool.query('CREATE TABLE orders (id uuid PRIMARY KEY, paid boolean NOT NULL DEFAULT false)')
  await pool.query('CREATE TABLE given_up (id uuid PRIMARY KEY)')
})
afterAll(async () => {
  sandbox.closeAllConnections()
  sandbox.close()
  await pool.end()
  await server?.stop()
})

describe.skipIf(server === undefined)('an app that is killed while it sells', () => {
  it(`charges each order once, and no other: ${KILLS} times, seed ${SEED}`, async () => {
    const random = generator(SEED)
    console.log(`THROUGHLINE_SEED=${SEED} THROUGHLINE_KILLS=${KILLS}`)
    for (let kill = 0; kill < KILLS; kill += 1) {
      const app = start(true)
      await app.printed('ready')
      await sleep(random() * 700)
      app.process.kill('SIGKILL')
      await once(app.process, 'exit')
    }
    const last = start(false)
    await last.printed('paid')
    last.process.kill('SIGKILL')
    await once(last.process, 'exit')

    const { rows } = await pool.query<{ id: string }>('SELECT id FROM orders')
    const orders = rows.map(({ id }) => id).sort()
    expect(orders.length).toBeGreaterThan(KILLS)
    // As a list: a charge that was made twice would stand in it twice.
    expect([...charges.values()].sort()).toEqual(orders)
    expect((await pool.query('SELECT * FROM given_up')).rows).toEqual([])
    const dead = "SELECT id FROM pgboss.job WHERE name = 'payment.charge.dead'"
    expect((await pool.query(dead)).rows).toEqual([])
  }, 600_000)
})

function start(isSelling: boolean) {
  const { port } = sandbox.address() as AddressInfo
  const setUp: SetUp = {
    databaseUrl: server?.url ?? '',
    sandboxUrl: `http://127.0.0.1:${port}`,
    isSelling,
  }
  const process = spawn(globalThis.process.execPath, [PROCESS, JSON.stringify(setUp)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]()
  return {
    process,
    async printed(word: string): Promise<void> {
      for (;;) {
        const { value, done } = await lines.next()
        if (done === true) throw new Error(`The app ended before it printed "${word}".`)
        if (value === word) return
      }
    },
  }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
