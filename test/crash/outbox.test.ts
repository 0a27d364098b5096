/**
 * An app that is killed while it sells, and one whose database crashes: no message is lost, no charge is doubled, none
 * is without its order, and none is for an order that was rolled back. `THROUGHLINE_KILLS` says how often it is killed at
 * random (default 25), and `THROUGHLINE_SEED` repeats the moments of an earlier run.
 */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { PGlite } from '@electric-sql/pglite'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startPostgres } from '../support/postgres.ts'
import type { SetUp } from './outbox-process.ts'
import { STEPS } from './outbox-steps.ts'

const PROCESS = fileURLToPath(new URL('outbox-process.ts', import.meta.url))
const KILLS = Number(process.env.THROUGHLINE_KILLS ?? 25)
const SEED = Number(process.env.THROUGHLINE_SEED ?? randomInt(2 ** 31))
const KILLS_PER_STEP = 3
const CRASHES = 4
const EMBEDDED_KILLS = 3

const server = await startPostgres()
const folder = mkdtempSync(join(tmpdir(), 'throughline-outbox-'))

const TABLES = `CREATE TABLE orders (id uuid PRIMARY KEY, paid boolean NOT NULL DEFAULT false);
  CREATE TABLE given_up (id uuid PRIMARY KEY)`

/** Charges as a payment provider keeps them: one for each idempotency key. */
const charges = new Map<string, string>()
const sandbox = createServer(async (request, response) => {
  const orderId = await text(request).catch(() => undefined)
  if (orderId === undefined) return
  await sleep(Math.random() * 30)
  charges.set(String(request.headers['idempotency-key']), orderId)
  // Charged, but the answer is lost.
  response.statusCode = Math.random() < 0.1 ? 503 : 200
  response.end()
})

beforeAll(async () => {
  sandbox.listen(0, '127.0.0.1')
  await once(sandbox, 'listening')
})
beforeEach(() => charges.clear())
afterAll(async () => {
  sandbox.closeAllConnections()
  sandbox.close()
  await server?.stop()
  rmSync(folder, { recursive: true, force: true })
})

describe.skipIf(server === undefined)('an outbox on Postgres', () => {
  it.each(STEPS)('loses and doubles nothing when the app is killed: %s', async (step) => {
    const database = await databaseNamed(`killed_${step.replace(' ', '_')}`)
    for (let kill = 1; kill <= KILLS_PER_STEP; kill += 1) {
      const app = start({ database, isSelling: true, killAt: { step, occurrence: kill } })
      expect(await app.ended).toEqual([null, 'SIGKILL'])
    }
    await expectEachChargedOnce(database)
  })

  it(`loses and doubles nothing when the app is killed ${KILLS} times at random, seed ${SEED}`, async () => {
    console.log(`THROUGHLINE_SEED=${SEED} THROUGHLINE_KILLS=${KILLS}`)
    const random = generator(SEED)
    const database = await databaseNamed('killed_at_random')
    for (let kill = 0; kill < KILLS; kill += 1) {
      const app = start({ database, isSelling: true })
      await app.printed('ready')
      await sleep(random() * 700)
      app.process.kill('SIGKILL')
      await app.ended
    }
    expect((await expectEachChargedOnce(database)).length).toBeGreaterThan(KILLS)
  }, 600_000)

  it.skipIf(server?.crash === undefined)(
    `loses and doubles nothing when the database crashes ${CRASHES} times while the app sells`,
    async () => {
      const database = await databaseNamed('crashed')
      const app = start({ database, isSelling: true })
      await app.printed('ready')
      for (let crash = 0; crash < CRASHES; crash += 1) {
        await sleep(700 + Math.random() * 700)
        await server?.crash?.()
      }
      await sleep(500)
      app.process.kill('SIGKILL')
      await app.ended
      expect((await expectEachChargedOnce(database)).length).toBeGreaterThan(CRASHES)
    },
    120_000,
  )
})

describe('an outbox on a PGlite that keeps its data', () => {
  it(`loses and doubles nothing when the app is killed ${EMBEDDED_KILLS} times`, async () => {
    const database = { folder: join(folder, 'pglite') }
    const prepared = await PGlite.create(database.folder)
    await prepared.exec(TABLES)
    await prepared.close()
    for (let kill = 1; kill <= EMBEDDED_KILLS; kill += 1) {
      const app = start({ database, isSelling: true, killAt: { step: 'called', occurrence: kill * 3 } })
      expect(await app.ended).toEqual([null, 'SIGKILL'])
    }
    await expectEachChargedOnce(database)
  }, 120_000)
})

/** A database of its own on the server. */
async function databaseNamed(name: string): Promise<{ url: string }> {
  const url = new URL(server?.url ?? '')
  const admin = new pg.Client({ connectionString: url.href })
  await admin.connect()
  await admin.query(`CREATE DATABASE ${name}`)
  await admin.end()
  url.pathname = `/${name}`
  await queryOn({ url: url.href }, TABLES)
  return { url: url.href }
}

/** Works off what is left, and compares the charges with the orders, which it returns. */
async function expectEachChargedOnce(database: SetUp['database']): Promise<string[]> {
  const last = start({ database, isSelling: false })
  await last.printed('paid')
  await last.ended
  const idsOf = async (statement: string) =>
    (await queryOn(database, statement)).map(({ id }) => String(id)).sort()
  const orders = await idsOf('SELECT id FROM orders')
  expect(orders.length).toBeGreaterThan(0)
  // As a list: a charge that was made twice would stand in it twice.
  expect([...charges.values()].sort()).toEqual(orders)
  expect(await idsOf('SELECT id FROM given_up')).toEqual([])
  expect(await idsOf("SELECT id FROM pgboss.job WHERE name = 'payment.charge.dead'")).toEqual([])
  return orders
}

async function queryOn(database: SetUp['database'], statement: string): Promise<Record<string, unknown>[]> {
  if ('folder' in database) {
    const pglite = await PGlite.create(database.folder)
    const { rows } = await pglite.query<Record<string, unknown>>(statement)
    await pglite.close()
    return rows
  }
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  const { rows } = await client.query(statement)
  await client.end()
  return rows
}

function start(given: Omit<SetUp, 'sandboxUrl'>) {
  const { port } = sandbox.address() as AddressInfo
  const setUp: SetUp = { ...given, sandboxUrl: `http://127.0.0.1:${port}` }
  const child = spawn(process.execPath, [PROCESS, JSON.stringify(setUp)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, THROUGHLINE_LOG_LEVEL: 'silent' },
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    process: child,
    ended: once(child, 'exit'),
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
