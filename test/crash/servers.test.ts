/** Servers that stop, come back and cut connections in the middle of a run. */
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runOnce } from '../../src/idempotency/index.ts'
import { migrate, postgresStore } from '../../src/idempotency/stores/postgres.ts'
import { redisStore } from '../../src/idempotency/stores/redis.ts'
import { startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'

const [postgres, durable, forgetful] = await Promise.all([
  startPostgres(),
  startRedis({ isDurable: true }),
  startRedis(),
])
const pool = new pg.Pool({ connectionString: postgres?.url, max: 4 })
pool.on('error', () => {})

beforeAll(async () => {
  if (postgres === undefined) return
  await pool.query('CREATE TABLE effects (key text NOT NULL)')
  await migrate(pool)
})
afterAll(async () => {
  await pool.end()
  await Promise.all([postgres?.stop(), durable?.stop(), forgetful?.stop()])
})

const use = () => ({ name: 'createOrder', scope: 'ann', key: randomUUID(), payload: {} })
const count = async (key: string) =>
  (await pool.query('SELECT count(*)::int AS n FROM effects WHERE key = $1', [key])).rows[0].n
const insert = (queryable: Pick<pg.ClientBase, 'query'>, key: string) =>
  queryable.query('INSERT INTO effects (key) VALUES ($1)', [key])

describe.skipIf(postgres === undefined || durable?.restart === undefined)(
  'Redis restarted in the middle of a run',
  () => {
    it('keeps the claim when it writes to disk: the run completes, and is replayed', async () => {
      const client = new Redis(durable?.url ?? '')
      client.on('error', () => {})
      const store = redisStore(client, { onUnknown: 'retain' })
      const options = use()
      const order = () =>
        runOnce(store, options, async (run) => {
          await run.markEffects()
          await insert(pool, options.key)
          await durable?.restart?.()
          return 'done'
        })
      expect(await order()).toBe('done')
      expect(await order()).toBe('done')
      expect(await count(options.key)).toBe(1)
      client.disconnect()
    })

    it.skipIf(forgetful?.restart === undefined)(
      'refuses the result when it has forgotten the claim, and says that the effect may happen twice',
      async () => {
        const client = new Redis(forgetful?.url ?? '')
        client.on('error', () => {})
        const store = redisStore(client, { onUnknown: 'retain' })
        const options = use()
        const order = runOnce(store, options, async (run) => {
          await run.markEffects()
          await insert(pool, options.key)
          await forgetful?.restart?.()
          return 'done'
        })
        await expect(order).rejects.toMatchObject({ code: 'IDEMPOTENCY_LEASE_LOST' })
        client.disconnect()
      },
    )
  },
)

describe.skipIf(postgres === undefined)('a connection cut in the middle of a transaction', () => {
  it.each(['in the body', 'while the body waits'])(
    '%s leaves nothing, and the next try runs',
    async (when) => {
      const store = postgresStore(pool)
      const options = use()
      const cut = runOnce(store, options, async ({ tx }) => {
        const { rows } = await tx.query('SELECT pg_backend_pid() AS pid')
        await insert(tx, options.key)
        await pool.query('SELECT pg_terminate_backend($1)', [rows[0].pid])
        if (when === 'in the body') await insert(tx, options.key)
        else await new Promise((resolve) => setTimeout(resolve, 50))
        return 'done'
      })
      await expect(cut).rejects.toThrow()
      expect(await count(options.key)).toBe(0)
      const again = await runOnce(store, options, ({ tx }) => insert(tx, options.key).then(() => 'done'))
      expect(again).toBe('done')
      expect(await count(options.key)).toBe(1)
    },
  )

  it('leaves the pool whole: no connection is lost', async () => {
    await Promise.all(Array.from({ length: 8 }, () => pool.query('SELECT 1')))
    expect(pool.waitingCount).toBe(0)
    expect(pool.idleCount).toBe(pool.totalCount)
  })
})
