import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runOnce } from '../../src/idempotency/index.ts'
import { hybridStore } from '../../src/idempotency/stores/hybrid.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { postgresStore } from '../../src/idempotency/stores/postgres.ts'
import { redisStore } from '../../src/idempotency/stores/redis.ts'
import { startPostgres } from '../support/postgres.ts'
import { freshTable } from '../support/postgres-tables.ts'
import { startRedis } from '../support/redis.ts'
import { describeTransactionalStore } from './transactional-store.ts'

const [postgres, kv] = await Promise.all([startPostgres(), startRedis()])
const pool = new pg.Pool({ connectionString: postgres?.url, max: 10 })
const redis = new Redis(kv?.url ?? 'redis://127.0.0.1:1', {
  lazyConnect: true,
  maxRetriesPerRequest: 0,
  commandTimeout: 500,
})
redis.on('error', () => {})

beforeAll(async () => {
  if (postgres === undefined || kv === undefined) return
  await redis.connect()
  await pool.query('CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text NOT NULL)')
})
afterAll(async () => {
  redis.disconnect()
  await pool.end()
  await Promise.all([postgres?.stop(), kv?.stop()])
})

const insert = (tx: pg.PoolClient, item: string) => tx.query('INSERT INTO orders (item) VALUES ($1)', [item])
const count = async (item: string) =>
  Number((await pool.query('SELECT count(*) FROM orders WHERE item = $1', [item])).rows[0].count)
const use = () => ({ name: 'createOrder', scope: 'ann', key: randomUUID(), payload: {} })

async function createStores(now?: () => number) {
  const prefix = `test:${randomUUID()}:`
  const table = await freshTable(pool)
  const store = () =>
    hybridStore(
      redisStore(redis, { onUnknown: 'rerun', prefix, ...(now && { now }) }),
      postgresStore(pool, { table, ...(now && { now }) }),
    )
  return [store(), store()] as const
}

describe.skipIf(postgres === undefined || kv === undefined)('hybridStore', () => {
  describeTransactionalStore<pg.PoolClient>('hybridStore on Redis and pg', () => ({
    createStores: async (now) => {
      const [one, other] = await createStores(now)
      return [one, other]
    },
    insert,
    count,
    fail: (tx) => tx.query('SELECT 1 / 0'),
  }))

  it('replays from the KV without a connection to the database', async () => {
    const table = await freshTable(pool)
    const own = new pg.Pool({ connectionString: postgres?.url, max: 1 })
    const front = redisStore(redis, { onUnknown: 'retain', prefix: `test:${randomUUID()}:` })
    const store = hybridStore(front, postgresStore(own, { table }))
    const options = use()
    await runOnce(store, options, () => 'done')
    await own.end()
    expect(await runOnce(store, options, () => 'again')).toBe('done')
  })

  it('replays from the receipt when the KV has lost its records, and heals the KV', async () => {
    const table = await freshTable(pool)
    const front = redisStore(redis, { onUnknown: 'retain', prefix: `test:${randomUUID()}:` })
    const store = hybridStore(front, postgresStore(pool, { table }))
    const options = use()
    const item = randomUUID()
    await runOnce(store, options, ({ tx }) => insert(tx, item).then(() => 'done'))
    await redis.flushall()
    const seen: unknown[] = []
    const shown = { ...options, onUse: ({ outcome }: { outcome: string }) => seen.push(outcome) }
    expect(await runOnce(store, shown, ({ tx }) => insert(tx, item).then(() => 'again'))).toBe('done')
    expect(await count(item)).toBe(1)
    const gone = new pg.Pool({ connectionString: postgres?.url })
    await gone.end()
    const healed = hybridStore(front, postgresStore(gone, { table }))
    expect(await runOnce(healed, shown, () => 'again')).toBe('done')
    expect(seen).toEqual(['replay', 'replay'])
  })

  it('lets the database decide when the KV did not hear that a run was rolled back', async () => {
    const table = await freshTable(pool)
    const front = redisStore(redis, { onUnknown: 'rerun', prefix: `test:${randomUUID()}:` })
    const deaf = { ...front, abort: () => Promise.reject(new Error('The KV is out.')) }
    const options = use()
    const failing = runOnce(hybridStore(deaf, postgresStore(pool, { table })), options, () => {
      throw new Error('out of tea')
    })
    await expect(failing).rejects.toThrow('out of tea')
    const store = hybridStore(front, postgresStore(pool, { table }))
    const corrected = { ...options, payload: { item: 'coffee' } }
    expect(await runOnce(store, corrected, () => 'coffee')).toBe('coffee')
    expect(await runOnce(store, corrected, () => 'again')).toBe('coffee')
    await expect(runOnce(store, { ...options, payload: 'tea' }, () => 'tea')).rejects.toMatchObject({
      code: 'IDEMPOTENCY_MISMATCH',
    })
  })

  it('commits one row when the KV loses its records while the run goes on', async () => {
    const [here, there] = await createStores()
    const options = { ...use(), inFlight: { waitMs: 20_000 } }
    const item = randomUUID()
    let enter = () => {}
    const entered = new Promise<void>((resolve) => {
      enter = resolve
    })
    let leave = () => {}
    const left = new Promise<void>((resolve) => {
      leave = resolve
    })
    const first = runOnce(here, options, async ({ tx }) => {
      await insert(tx, item)
      enter()
      await left
      return 'first'
    })
    await entered
    await redis.flushall()
    const second = runOnce(there, options, ({ tx }) => insert(tx, item).then(() => 'second'))
    // The second waits for the first one's row: the lock is to be seen in the database.
    await expect
      .poll(async () => {
        const { rows } = await pool.query(
          "SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'",
        )
        return rows[0].n
      })
      .toBeGreaterThan(0)
    leave()
    expect(await Promise.all([first, second])).toEqual(['first', 'first'])
    expect(await count(item)).toBe(1)
  })
})

describe.skipIf(postgres === undefined || kv?.restart === undefined)('hybridStore without its KV', () => {
  beforeEach(async () => {
    if (redis.status !== 'ready') await redis.connect().catch(() => {})
  })

  it('goes on by the database alone, and replays', async () => {
    const [store] = await createStores()
    const options = use()
    const item = randomUUID()
    redis.disconnect()
    const order = () => runOnce(store, options, ({ tx }) => insert(tx, item).then(() => 'done'))
    expect(await order()).toBe('done')
    expect(await order()).toBe('done')
    expect(await count(item)).toBe(1)
  })

  it('commits one row when the KV fails over, without its records, between the claim and the commit', async () => {
    const [store] = await createStores()
    const options = use()
    const item = randomUUID()
    const order = () =>
      runOnce(store, options, async ({ tx }) => {
        await insert(tx, item)
        await kv?.restart?.()
        return 'done'
      })
    expect(await order()).toBe('done')
    expect(await order()).toBe('done')
    expect(await count(item)).toBe(1)
  }, 30_000)
})

describe('hybridStore', () => {
  it('refuses stores that cannot have the part', () => {
    expect(() => hybridStore({} as never, {} as never)).toThrow(/"kv" must be a store/)
    expect(() => hybridStore(memoryStore(), memoryStore() as never)).toThrow(
      /"database" must be a store in the transaction/,
    )
  })
})
