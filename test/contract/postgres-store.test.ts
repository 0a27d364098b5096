import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { PGlite } from '@electric-sql/pglite'
import { PrismaPg } from '@prisma/adapter-pg'
import { sql } from 'drizzle-orm'
import { drizzle as drizzleOnPg } from 'drizzle-orm/node-postgres'
import { drizzle as drizzleOnPglite } from 'drizzle-orm/pglite'
import { drizzle as drizzleOnPostgresJs } from 'drizzle-orm/postgres-js'
import fc from 'fast-check'
import { CamelCasePlugin, Kysely, sql as kyselySql, PostgresDialect } from 'kysely'
import pg from 'pg'
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isThroughlineError } from '../../src/errors.ts'
import { runOnce } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import {
  migrate,
  type PostgresDatabase,
  postgresStore,
  type TransactionOf,
} from '../../src/idempotency/stores/postgres.ts'
import { startPostgres } from '../support/postgres.ts'
import { freshTable } from '../support/postgres-tables.ts'
import { generatePrismaClient } from '../support/prisma.ts'
import { describeStore, tokenOf } from './idempotency-store.ts'
import { collectLogLines } from './log-lines.ts'
import { runCommands, someCommands } from './store-commands.ts'
import { describeTransactionalStore } from './transactional-store.ts'

const server = await startPostgres()
const url = server?.url ?? 'postgres://127.0.0.1:1/none'
const lines = collectLogLines()

const pool = new pg.Pool({ connectionString: url, max: 10 })
const postgresJs = postgres(url, { max: 10, onnotice: () => {}, transform: postgres.camel })
const kysely = new Kysely<{ orders: { id: number; item: string } }>({
  dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: url, max: 10 }) }),
  plugins: [new CamelCasePlugin()],
})
const prisma = server === undefined ? undefined : await prismaClient()
const pglite = new PGlite()
const drizzlePg = drizzleOnPg({ client: pool })
const drizzlePostgresJs = drizzleOnPostgresJs({ client: postgres(url, { max: 10, onnotice: () => {} }) })
const drizzlePglite = drizzleOnPglite({ client: pglite })

const ORDERS = 'CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text NOT NULL)'

beforeAll(async () => {
  await pglite.exec(ORDERS)
  if (server !== undefined) await pool.query(ORDERS)
})
afterAll(async () => {
  await Promise.all([
    pool.end(),
    postgresJs.end(),
    kysely.destroy(),
    drizzlePostgresJs.$client.end(),
    prisma?.$disconnect(),
    pglite.close(),
  ])
  await server?.stop()
})

const INSERT = 'INSERT INTO orders (item) VALUES ($1)'
const BROKEN = 'SELECT 1 / 0'

/** How each client writes and fails within its own transaction, which is typed where it is made. */
interface Client {
  name: string
  db: PostgresDatabase | undefined
  insert(tx: unknown, item: string): Promise<unknown>
  fail(tx: unknown): Promise<unknown>
  isEmbedded?: boolean
}

const clients = [
  client({
    name: 'pg',
    db: pool,
    insert: (tx, item) => tx.query(INSERT, [item]),
    fail: (tx) => tx.query(BROKEN),
  }),
  client({
    name: 'postgres.js',
    db: postgresJs,
    insert: (tx, item) => tx`INSERT INTO orders (item) VALUES (${item})`.execute(),
    fail: (tx) => tx.unsafe(BROKEN).execute(),
  }),
  client({
    name: 'Drizzle on pg',
    db: drizzlePg,
    insert: (tx, item) => tx.execute(sql`INSERT INTO orders (item) VALUES (${item})`),
    fail: (tx) => tx.execute(BROKEN),
  }),
  client({
    name: 'Drizzle on postgres.js',
    db: drizzlePostgresJs,
    insert: async (tx, item) => tx.execute(sql`INSERT INTO orders (item) VALUES (${item})`),
    fail: async (tx) => tx.execute(BROKEN),
  }),
  client({
    name: 'Kysely',
    db: kysely,
    insert: (tx, item) =>
      tx
        .insertInto('orders')
        .values({ item } as never)
        .execute(),
    fail: (tx) => kyselySql.raw(BROKEN).execute(tx),
  }),
  client({
    name: 'Prisma',
    db: prisma,
    insert: (tx, item) => tx.order.create({ data: { item } }),
    fail: (tx) => tx.$queryRawUnsafe(BROKEN),
  }),
  client({
    name: 'PGlite',
    db: pglite,
    insert: (tx, item) => tx.query(INSERT, [item]),
    fail: (tx) => tx.query(BROKEN),
    isEmbedded: true,
  }),
  client({
    name: 'Drizzle on PGlite',
    db: drizzlePglite,
    insert: (tx, item) => tx.execute(sql`INSERT INTO orders (item) VALUES (${item})`),
    fail: (tx) => tx.execute(BROKEN),
    isEmbedded: true,
  }),
]

describe.each(clients)('postgresStore on $name', ({ name, db, insert, fail, isEmbedded = false }) => {
  const isMissing = server === undefined && !isEmbedded
  describe.skipIf(isMissing)('apart from the app', () => {
    describeStore(`postgresStore on ${name}`, async (now) =>
      postgresStore(present(db), {
        mode: 'lease',
        onUnknown: 'retain',
        table: await freshTable(present(db)),
        now,
      }),
    )

    it('does what the pure machine does, whatever is done to it', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom('retain' as const, 'rerun' as const),
          someCommands,
          async (onUnknown, commands) => {
            const table = await freshTable(present(db))
            const log = await runCommands(
              (now) => postgresStore(present(db), { mode: 'lease', onUnknown, table, now, sweepEveryMs: 0 }),
              commands,
            )
            expect(log).toEqual(
              await runCommands((now) => memoryStore({ name: randomUUID(), onUnknown, now }), commands),
            )
          },
        ),
        { numRuns: 25 },
      )
    }, 60_000)
  })

  describe.skipIf(isMissing)('in the transaction', () => {
    describeTransactionalStore<unknown>(`postgresStore on ${name}`, () => ({
      async createStores(now) {
        const table = await freshTable(present(db))
        const store = () => postgresStore(present(db), now === undefined ? { table } : { table, now })
        return [store(), store()]
      },
      insert,
      fail,
      async count(item) {
        const text = 'SELECT count(*) FROM orders WHERE item = $1'
        const { rows } = isEmbedded ? await pglite.query(text, [item]) : await pool.query(text, [item])
        return Number((rows[0] as { count: string }).count)
      },
    }))
  })
})

describe.skipIf(server === undefined)('postgresStore', () => {
  const use = () => ({ name: 'createOrder', scope: 'ann', key: randomUUID(), payload: {} })

  it('says once that its table is missing, and how to make it; nothing runs', async () => {
    const store = postgresStore(pool, { table: 'not_there' })
    let runs = 0
    const refused = await runOnce(store, use(), () => (runs += 1)).catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'STORE_UNAVAILABLE', cause: { code: 'STORE_TABLE_MISSING' } })
    expect(isThroughlineError(refused) && String(refused.cause)).toMatch(/Call migrate\(db\)/)
    await runOnce(store, use(), () => (runs += 1)).catch(() => {})
    expect(runs).toBe(0)
    await expect
      .poll(() => lines.filter(({ msg }) => /"not_there" is not there/.test(String(msg))))
      .toHaveLength(1)
  })

  it('makes its table however many call at once, and again', async () => {
    const table = `records_${randomUUID().replaceAll('-', '')}`
    await Promise.all(Array.from({ length: 8 }, () => migrate(pool, { table })))
    await migrate(postgresJs, { table })
    expect(await runOnce(postgresStore(pool, { table }), use(), () => 'done')).toBe('done')
  })

  it("leaves the caller's own lock_timeout as it was", async () => {
    const store = postgresStore(pool, { table: await freshTable(pool) })
    const timeout = await runOnce(store, { ...use(), inFlight: { waitMs: 777 } }, async ({ tx }) => {
      const { rows } = await tx.query('SHOW lock_timeout')
      return rows[0]?.lock_timeout
    })
    expect(timeout).toBe('0')
  })

  it('replays to those who waited under a stricter isolation, too', async () => {
    const strict = new pg.Pool({
      connectionString: url,
      options: '-c default_transaction_isolation=serializable',
    })
    const store = () => postgresStore(strict, { table })
    const table = await freshTable(pool)
    const options = { ...use(), inFlight: { waitMs: 10_000 } }
    let runs = 0
    const order = async ({ tx }: { tx: pg.PoolClient }) => {
      await tx.query('SELECT pg_sleep(0.05)')
      runs += 1
      return runs
    }
    const results = await Promise.all(Array.from({ length: 8 }, () => runOnce(store(), options, order)))
    expect(results).toEqual(Array(8).fill(1))
    await strict.end()
  })

  it('lets one of many callers win under a stricter isolation, apart from the app too', async () => {
    const strict = new pg.Pool({
      connectionString: url,
      options: '-c default_transaction_isolation=serializable',
    })
    const table = await freshTable(pool)
    const store = postgresStore(strict, { table, mode: 'lease', onUnknown: 'retain' })
    const request = { key: 'key', fingerprint: 'f', leaseMs: 60_000, retentionMs: 60_000 }
    const claims = await Promise.all(Array.from({ length: 10 }, () => store.claim(request)))
    expect(claims.filter(({ outcome }) => outcome === 'won')).toHaveLength(1)
    expect(claims.filter(({ outcome }) => outcome === 'busy')).toHaveLength(9)
    await strict.end()
  })

  it('does not take a COMMIT that the server answers with ROLLBACK for one', async () => {
    const table = await freshTable(pool)
    const item = randomUUID()
    // As if a statement that the body did not await failed at the last moment.
    const sabotaged = new Proxy(pool, {
      get(target, name) {
        const own: unknown = Reflect.get(target, name)
        if (name !== 'connect') return typeof own === 'function' ? own.bind(target) : own
        return async () => {
          const client = await target.connect()
          return new Proxy(client, {
            get(connection, property) {
              const value: unknown = Reflect.get(connection, property)
              if (typeof value !== 'function') return value
              return async (...args: unknown[]) => {
                if (args[0] === 'COMMIT') await connection.query(BROKEN).catch(() => {})
                return Reflect.apply(value, connection, args)
              }
            },
          })
        }
      },
    })
    const options = use()
    const order = runOnce(postgresStore(sabotaged, { table }), options, async ({ tx }) => {
      await tx.query(INSERT, [item])
      return 'done'
    })
    await expect(order).rejects.toThrow(/rolled back/)
    expect((await pool.query('SELECT FROM orders WHERE item = $1', [item])).rowCount).toBe(0)
    expect(await runOnce(postgresStore(pool, { table }), options, () => 'ran')).toBe('ran')
  })

  it('names an error of Drizzle without the parameters of its statement', async () => {
    const store = postgresStore(drizzlePg, { table: 'not_there', mode: 'lease', onUnknown: 'retain' })
    const refused = await store.complete('key.token', 'SECRET').catch((error: unknown) => error)
    expect(String(refused)).toMatch(/not_there/)
    expect(inspect(refused, { depth: 9, showHidden: true })).not.toContain('SECRET')
  })

  it('takes four statements beside those of the body, and one for a claim apart', async () => {
    const table = await freshTable(pool)
    const since = () => (server?.log() ?? '').length
    const statements = (from: number) =>
      (server?.log() ?? '')
        .slice(from)
        .split('\n')
        .filter((line) => /LOG: {2}(?:statement|execute)/.test(line))
    if (server?.log() === undefined) return
    const store = postgresStore(pool, { table, sweepEveryMs: 0 })
    await runOnce(store, use(), () => 'first, which also looks at the server')
    await pool.query('SELECT 1')
    const before = since()
    await runOnce(store, use(), () => 'done')
    expect(statements(before)).toHaveLength(4)
    const apart = postgresStore(pool, { table, sweepEveryMs: 0, mode: 'lease', onUnknown: 'retain' })
    await apart.claim({ key: 'warm', fingerprint: 'f', leaseMs: 1_000, retentionMs: 1_000 })
    await pool.query('SELECT 1')
    const beforeClaim = since()
    await apart.claim({ key: 'key', fingerprint: 'f', leaseMs: 1_000, retentionMs: 1_000 })
    expect(statements(beforeClaim)).toHaveLength(1)
  })

  it('removes records whose retention is over, beside a later claim', async () => {
    const table = await freshTable(pool)
    let nowMs = 1_790_000_000_000
    const create = () => postgresStore(pool, { table, now: () => nowMs, mode: 'lease', onUnknown: 'retain' })
    const request = (key: string) => ({ key, fingerprint: 'f', leaseMs: 1_000, retentionMs: 1_000 })
    const store = create()
    for (let index = 0; index < 20; index += 1) {
      await store.complete(tokenOf(await store.claim(request(`${index}`))), 'result')
    }
    nowMs += 5_000
    await create().claim(request('later'))
    await expect
      .poll(async () => (await pool.query(`SELECT count(*)::int FROM ${table}`)).rows[0].count)
      .toBe(1)
  })

  it('runs again after effects that may have happened, when told to', async () => {
    const store = postgresStore(pool, { table: await freshTable(pool), mode: 'lease', onUnknown: 'rerun' })
    expect(store.guarantee).toBe('at-least-once')
    const options = use()
    const failing = runOnce(store, options, async (run) => {
      await run.markEffects()
      throw new Error('after effects')
    })
    await expect(failing).rejects.toThrow('after effects')
    expect(await runOnce(store, options, ({ outcome, fence }) => `${outcome} ${fence}`)).toBe('takeover 2')
  })

  it('refuses what it cannot work on', async () => {
    const single = new pg.Client({ connectionString: url })
    expect(() => postgresStore(single as never)).toThrow(/single connection.*Pass a Pool/)
    expect(() => postgresStore({} as never)).toThrow(/"db" must be a Pool of pg/)
    expect(() => postgresStore(pool, { table: 'a; DROP TABLE orders' })).toThrow(
      /"table" must be a plain name/,
    )
    expect(() => postgresStore(pool, { sweepEveryMs: -1 })).toThrow(/"sweepEveryMs"/)
    expect(() => postgresStore(pool, { mode: 'lease', onUnknown: 'maybe' as never })).toThrow(
      /'retain' or 'rerun'/,
    )
  })
})

function client<Db extends PostgresDatabase>(parts: {
  name: string
  db: Db | undefined
  insert(tx: TransactionOf<Db>, item: string): Promise<unknown>
  fail(tx: TransactionOf<Db>): Promise<unknown>
  isEmbedded?: boolean
}): Client {
  return parts as unknown as Client
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('The server is missing.')
  return value
}

/** Connects the generated client by its adapter. */
async function prismaClient() {
  const folder = fileURLToPath(new URL('../fixtures/prisma/clients/store', import.meta.url))
  const { PrismaClient } = await import(await generatePrismaClient(folder))
  return new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 10 }) }) as PrismaLike
}

/** The generated client is not there when types are checked. */
interface PrismaLike {
  $queryRawUnsafe(text: string, ...parameters: unknown[]): Promise<unknown>
  $transaction<T>(body: (tx: PrismaTransaction) => Promise<T>, options?: object): Promise<T>
  $disconnect(): Promise<void>
}
interface PrismaTransaction {
  $queryRawUnsafe(text: string, ...parameters: unknown[]): Promise<unknown>
  order: { create(what: { data: { item: string } }): Promise<unknown> }
}
