/** An outbox where something goes wrong around it: connections that run out, time that runs out, hostile values. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { PGlite } from '@electric-sql/pglite'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { activeRun } from '../../src/context/active-run.ts'
import { getCorrelationId, runWithCorrelation } from '../../src/context/index.ts'
import { runOnce } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { createOutbox, defineTopics, type OutboxOptions, openMessages } from '../../src/outbox/index.ts'
import { activeTransactionOf } from '../../src/postgres/active-transaction.ts'
import type { PostgresDatabase } from '../../src/postgres/database.ts'
import { transaction } from '../../src/postgres/transaction.ts'
import { eventually } from '../support/eventually.ts'
import { startPostgres } from '../support/postgres.ts'
import { recordSpans } from '../support/traced-requests.ts'
import { anything } from './outbox-topics.ts'

const server = await startPostgres()
const recorder = recordSpans()
const connectionString = server?.url ?? 'postgres://127.0.0.1:1/none'
const pool = new pg.Pool({ connectionString, max: 8 })
const ends: (() => Promise<unknown>)[] = []
beforeAll(async () => {
  if (server !== undefined) await pool.query('CREATE TABLE effects (id text)')
})
afterAll(async () => {
  for (const end of ends.reverse()) await end()
  await pool.end()
  await server?.stop()
})

const topics = defineTopics({ step: anything<{ id: string }>(), other: anything<{ id: string }>() })
type Given = typeof topics

/** An outbox of its own tables. */
async function outboxOn<Db extends PostgresDatabase>(
  db: Db,
  options: Partial<OutboxOptions<Db, Given>> = {},
) {
  const schema = `edge_${randomUUID().slice(0, 8)}`
  const outbox = createOutbox({ db, topics, schema, connectionString, retryDelayMaxSeconds: 1, ...options })
  await outbox.start()
  ends.push(() => outbox.stop())
  return { ...outbox, schema }
}

const effects = async (id: string) =>
  (await pool.query('SELECT id FROM effects WHERE id = $1', [id])).rows.length

describe.skipIf(server === undefined)('an outbox that is used before it is started', () => {
  it('refuses a send whose transaction has the only connection, instead of waiting for ever', async () => {
    const single = new pg.Pool({ connectionString, max: 1 })
    const outbox = createOutbox({ db: single, topics, schema: 'edge_single' })
    const send = () => transaction(single, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    await expect(send()).rejects.toMatchObject({ code: 'OUTBOX_NOT_STARTED' })
    await outbox.start()
    expect(await send()).toBeDefined()
    await outbox.stop()
    await single.end()
  })

  it('refuses sends whose transactions have all connections', async () => {
    const small = new pg.Pool({ connectionString, max: 2 })
    const outbox = createOutbox({ db: small, topics, schema: 'edge_small' })
    const send = () => transaction(small, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    const sent = await Promise.allSettled([send(), send()])
    expect(sent.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    // It has been started meanwhile.
    expect(await send()).toBeDefined()
    await outbox.stop()
    await small.end()
  })

  it('refuses a send on PGlite while it is being started', async () => {
    const pglite = new PGlite()
    const outbox = createOutbox({ db: pglite, topics })
    const starting = outbox.start()
    const sent = transaction(pglite, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    await expect(sent).rejects.toMatchObject({ code: 'OUTBOX_NOT_STARTED' })
    await starting
    await outbox.stop()
    await pglite.close()
  })

  it('goes on with the same tables when one of two that are alike is stopped', async () => {
    const sqlClient = postgres(connectionString, { max: 4, onnotice: () => {} })
    const settings = { db: sqlClient, topics, schema: 'edge_alike', connectionString }
    const [one, two] = [createOutbox(settings), createOutbox(settings)]
    await Promise.all([one.start(), two.start()])
    const handled: string[] = []
    const worker = await one.work(
      { step: async ({ id }) => handled.push(id) },
      { pollingIntervalSeconds: 0.05 },
    )
    await two.stop()
    await transaction(sqlClient, (tx) => one.send(tx, 'step', { id: 'after' }))
    await eventually(() => expect(handled).toEqual(['after']))
    await worker.stop()
    await one.stop()
    await sqlClient.end()
  })
})

describe.skipIf(server === undefined)('a worker', () => {
  it('bears the ID of no request, nor its transaction, wherever it was begun', async () => {
    const seen: unknown[] = []
    const outbox = await runWithCorrelation('first-request', () =>
      transaction(pool, async () => {
        const made = await outboxOn(pool)
        const worker = await made.work(
          {
            step: async () => {
              seen.push(getCorrelationId(), activeTransactionOf(pool), activeRun()?.key)
            },
          },
          { pollingIntervalSeconds: 0.05 },
        )
        return { ...made, worker }
      }),
    )
    const id = await runWithCorrelation('second-request', () =>
      transaction(pool, (tx) => outbox.send(tx, 'step', { id: 'a' })),
    )
    await eventually(() => expect(seen).toHaveLength(3))
    await outbox.worker.stop()
    expect(seen).toEqual(['second-request', undefined, id])
  })

  it('begins none of its topics when one of them is unknown', async () => {
    const outbox = await outboxOn(pool)
    const handled: string[] = []
    const handlers = { step: async ({ id }: { id: string }) => handled.push(id), unknown: async () => {} }
    await expect(outbox.work(handlers as never)).rejects.toMatchObject({ code: 'OUTBOX_TOPIC_UNKNOWN' })
    await transaction(pool, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    await sleep(700)
    expect(handled).toEqual([])
  })

  it('outlives errors that cannot be read, and texts that Postgres does not keep', async () => {
    const outbox = await outboxOn(pool)
    const errors = [
      Object.defineProperty(new Error('x'), 'message', {
        get: () => {
          throw new Error('no')
        },
      }),
      new Error('from upstream: \0 \ud800'),
      undefined,
      Symbol('thrown'),
    ]
    for (const [index] of errors.entries())
      await transaction(pool, (tx) => outbox.send(tx, 'step', { id: String(index) }))
    const { failed } = await outbox.drain({
      step: async ({ id }) => {
        throw errors[Number(id)]
      },
    })
    expect(failed).toBeGreaterThanOrEqual(errors.length)
    const { rows } = await pool.query(
      `SELECT state, data->'failed'->0->>'message' AS message FROM ${outbox.schema}.job ORDER BY created_on`,
    )
    expect(rows.map(({ state }) => state)).toEqual(errors.map(() => 'retry'))
    expect(rows[1].message).toBe('from upstream: \ufffd \ufffd')
  })

  it('shows no values of a statement that failed', async () => {
    const db = drizzle({ client: pool })
    const outbox = await outboxOn(db)
    await transaction(db, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    recorder.taken()
    await outbox.drain({
      step: (_payload, { complete }) =>
        complete((tx) => tx.execute(sql`INSERT INTO nowhere VALUES (${'4111111111111111'})`)),
    })
    const [span] = recorder.taken().filter(({ name }) => name === 'process step')
    expect(span?.status.message).toContain('Failed query')
    expect(JSON.stringify([span?.events, span?.status])).not.toContain('4111')
    const { rows } = await pool.query(`SELECT data::text, output::text FROM ${outbox.schema}.job`)
    expect(JSON.stringify(rows)).not.toContain('4111')
  })
})

describe.skipIf(server === undefined)('an attempt', () => {
  it('is told when the message is completed in the wrong place, or not awaited', async () => {
    const outbox = await outboxOn(pool)
    await transaction(pool, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    const thrown: unknown[] = []
    await outbox.drain({
      step: async (_payload, { complete }) => {
        await transaction(pool, () => complete(async () => {})).catch((error: unknown) => thrown.push(error))
        void complete((tx) => tx.query('SELECT pg_sleep(0.1)'))
      },
    })
    expect(thrown).toMatchObject([{ code: 'TRANSACTION_NESTED' }])
    const { rows } = await pool.query(
      `SELECT data->'failed'->0->>'message' AS message FROM ${outbox.schema}.job`,
    )
    expect(rows[0].message).toContain('while its message was being completed')
  })

  it('that was given up within a nested transaction ends nothing of another', async () => {
    const db = drizzle({ client: new pg.Pool({ connectionString, max: 1 }) })
    ends.push(() => db.$client.end())
    const [id, otherId] = [randomUUID(), randomUUID()]
    const outbox = createOutbox({ db: pool, topics, schema: 'edge_zombie', expireInSeconds: 1 })
    await outbox.start()
    ends.push(() => outbox.stop())
    const onSingle = createOutbox({ db, topics, schema: 'edge_zombie_drizzle', expireInSeconds: 1 })
    await onSingle.start()
    ends.push(() => onSingle.stop())
    await transaction(db, (tx) => onSingle.send(tx, 'step', { id }))
    let wake = () => {}
    const late = new Promise<void>((resolve) => {
      wake = resolve
    })
    await onSingle.drain({
      step: (_payload, { complete }) =>
        complete((tx) =>
          tx.transaction(async (inner) => {
            await late
            await inner.execute(sql`INSERT INTO effects VALUES (${id})`)
          }),
        ),
    })
    await transaction(db, async (tx) => {
      await tx.execute(sql`INSERT INTO effects VALUES (${otherId})`)
      wake()
      await sleep(200)
    })
    expect([await effects(id), await effects(otherId)]).toEqual([0, 1])
  })

  it('that expires while it commits is done, and says so', async () => {
    const slow = new pg.Pool({ connectionString, max: 4 })
    ends.push(() => slow.end())
    const outbox = createOutbox({ db: slow, topics, schema: 'edge_commit', expireInSeconds: 1 })
    await outbox.start()
    ends.push(() => outbox.stop())
    // The commit takes longer than the attempt may.
    await pool.query(
      `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'`,
    )
    await pool.query('CREATE TABLE slow (id text)')
    await pool.query(
      'CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()',
    )
    await transaction(slow, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    recorder.taken()
    const result = await outbox.drain({
      step: (_payload, { complete }) => complete((tx) => tx.query("INSERT INTO slow VALUES ('a')")),
    })
    expect(result).toEqual({ handled: 1, failed: 0, isEmpty: true })
    const [span] = recorder.taken().filter(({ name }) => name === 'process step')
    expect(span?.attributes['outbox.outcome']).toBe('handled')
    expect(span?.status.code).toBe(0)
  })

  it('has all of its client in the transaction that it completes in', async () => {
    const kysely = new Kysely<{ effects: { id: string } }>({
      dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString, max: 3 }) }),
    })
    ends.push(() => kysely.destroy())
    const outbox = await outboxOn(kysely)
    await transaction(kysely, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    const counted: unknown[] = []
    await outbox.drain({
      step: (_payload, { complete }) =>
        complete(async (tx) => {
          counted.push(await tx.selectFrom('effects').select(tx.fn.countAll<string>().as('n')).execute())
        }),
    })
    expect(counted).toEqual([[{ n: expect.any(String) }]])

    const sqlClient = postgres(connectionString, { max: 4, onnotice: () => {} })
    ends.push(() => sqlClient.end())
    const onPostgresJs = await outboxOn(sqlClient)
    const id = randomUUID()
    await transaction(sqlClient, (tx) => onPostgresJs.send(tx, 'step', { id }))
    const { handled } = await onPostgresJs.drain({
      step: (payload, { complete }) =>
        complete(async (tx) => {
          await tx.savepoint((inner) => inner`INSERT INTO effects VALUES (${payload.id})`)
          await tx`INSERT INTO effects ${tx([{ id: payload.id }])}`
        }),
    })
    expect([handled, await effects(id)]).toEqual([1, 2])
  })
})

describe.skipIf(server === undefined)('a drain', () => {
  it('gives back what it has no time for, and does not count that', async () => {
    const outbox = await outboxOn(pool, { retryLimit: 0 })
    await transaction(pool, (tx) => outbox.send(tx, 'step', { id: 'a' }))
    const attempts: number[] = []
    const drain = (ms: number) =>
      outbox.drain(
        {
          step: async (_payload, { attempt, signal }) => {
            attempts.push(attempt)
            if (attempts.length === 1) await sleep(60_000, undefined, { signal })
            if (attempts.length === 2) await sleep(60_000)
          },
        },
        { deadlineMs: ms },
      )
    expect(await drain(100)).toEqual({ handled: 0, failed: 0, isEmpty: false })
    // This one does not listen.
    expect(await drain(100)).toEqual({ handled: 0, failed: 0, isEmpty: false })
    expect(await drain(10_000)).toEqual({ handled: 1, failed: 0, isEmpty: true })
    expect(attempts).toEqual([1, 1, 1])
  })

  it('takes topics in turn', async () => {
    const outbox = await outboxOn(pool)
    for (const id of ['1', '2'])
      for (const topic of ['step', 'other'] as const)
        await transaction(pool, (tx) => outbox.send(tx, topic, { id }))
    const handled: string[] = []
    await outbox.drain({
      step: async ({ id }) => handled.push(`step ${id}`),
      other: async ({ id }) => handled.push(`other ${id}`),
    })
    expect(handled).toEqual(['step 1', 'other 1', 'step 2', 'other 2'])
  })

  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY])('refuses a deadline of %d', async (deadlineMs) => {
    const outbox = await outboxOn(pool)
    await expect(outbox.drain({}, { deadlineMs })).rejects.toThrow(/"deadlineMs"/)
  })
})

describe.skipIf(server === undefined)('what is sent', () => {
  const schemas = defineTopics({
    doubled: z.object({ text: z.string().transform((text) => `${text}!`) }),
    dated: z.object({ at: z.date() }),
    any: anything(),
  })
  let outbox: ReturnType<typeof createOutbox<pg.Pool, typeof schemas>>
  beforeAll(async () => {
    outbox = createOutbox({ db: pool, topics: schemas, schema: 'edge_payloads' })
    await outbox.start()
    ends.push(() => outbox.stop())
  })
  const send = (topic: keyof typeof schemas, payload: unknown, options = {}) =>
    transaction(pool, (tx) => outbox.send(tx, topic, payload as never, options))

  it('is stored as it came, and is what the schema makes of it once', async () => {
    await send('doubled', { text: 'hi' })
    const handled: unknown[] = []
    await outbox.drain({ doubled: async (payload) => handled.push(payload) })
    expect(handled).toEqual([{ text: 'hi!' }])
  })

  it.each([
    ['dated', { at: new Date() }, /at: .*date/],
    ['any', { n: 1n }, /not JSON/],
    ['any', { text: 'a\0b' }, /NUL/],
    ['any', { text: '\ud800' }, /surrogate/],
  ] as const)(
    'is refused when JSON or Postgres would not keep it: %s, %s',
    async (topic, payload, message) => {
      await expect(send(topic, payload)).rejects.toMatchObject({
        code: 'OUTBOX_PAYLOAD_INVALID',
        message: expect.stringMatching(message),
      })
    },
  )

  it('is not refused for a text that only looks like an escape', async () => {
    expect(await send('any', { text: '\\u0000 and \\\\ud800' })).toBeDefined()
  })

  it.each([Number.NaN, -1, 2 ** 40, new Date(Number.NaN), 'tomorrow'])(
    'is not sent after %s',
    async (startAfter) => {
      await expect(send('any', {}, { startAfter })).rejects.toThrow(/"startAfter"/)
    },
  )

  it('has the same ID when it is sent again after a transaction that was run twice', async () => {
    const store = memoryStore()
    const ids: (string | undefined)[] = []
    const place = async (conflicts: number) => {
      const use = { name: 'place', scope: 'user', key: randomUUID(), payload: {} }
      return runOnce(store, { ...use, key: 'the-same-key-each-time' }, async () => {
        let left = conflicts
        ids.push(
          await transaction(pool, async (tx) => {
            const id = await outbox.send(tx, 'any', {})
            if (left-- > 0) throw Object.assign(new Error('conflict'), { code: '40001' })
            return id
          }),
        )
        // What follows fails, so that the run is tried again.
        throw new Error('not yet')
      }).catch(() => {})
    }
    await place(1)
    await place(0)
    // The second is the same message, which is there.
    expect(ids).toEqual([expect.any(String), undefined])
  })
})

describe.skipIf(server === undefined)('dead letters', () => {
  it('go back in the order they came, are kept, and leave no gauge behind', async () => {
    const outbox = await outboxOn(pool, { order: { step: 'skip' }, retryLimit: 0 })
    for (const id of ['1', '2', '3'])
      await transaction(pool, (tx) => outbox.send(tx, 'step', { id }, { orderKey: 'a' }))
    let isMended = false
    const handled: string[] = []
    const drain = () =>
      outbox.drain({
        step: async ({ id }) => {
          if (!isMended) throw new Error('poison')
          handled.push(id)
        },
      })
    await drain()
    const messages = await openMessages({ db: pool, schema: outbox.schema })
    const dead = await messages.list({ states: ['dead'] })
    expect(dead).toHaveLength(3)
    const { rows } = await pool.query(
      `SELECT min(keep_until - now()) > interval '9 years' AS is_kept FROM ${outbox.schema}.job WHERE name = 'step.dead'`,
    )
    expect(rows).toEqual([{ is_kept: true }])
    isMended = true
    expect(await messages.redrive(dead.map(({ id }) => id))).toBe(3)
    expect(await messages.discard(dead.map(({ id }) => id))).toBe(0)
    await drain()
    expect(handled).toEqual(['1', '2', '3'])
    await messages.close()
  })

  it('are found beside what other code put into the queue', async () => {
    const outbox = await outboxOn(pool)
    await pool.query(
      `INSERT INTO ${outbox.schema}.job (name, data) VALUES ('step', '"a text"'), ('step', NULL)`,
    )
    const messages = await openMessages({ db: pool, schema: outbox.schema })
    expect((await messages.list({})).map(({ payload }) => payload)).toEqual(
      expect.arrayContaining(['a text', null]),
    )
    await messages.close()
  })
})

describe('the options of an outbox', () => {
  it.each([
    [{ retryLimit: -1 }, /"retryLimit"/],
    [{ expireInSeconds: 0.5 }, /"expireInSeconds"/],
    [{ expireInSeconds: 90_000 }, /"expireInSeconds".*86400/],
    [{ retryDelayMaxSeconds: 0 }, /"retryDelayMaxSeconds"/],
    [{ schema: 'a; DROP' }, /"schema"/],
  ])('refuse %j', (options, message) => {
    expect(() => createOutbox({ db: pool, topics, ...options })).toThrow(message)
  })

  it.each(['charge.dead', '__own', '.a', ''])('refuse a topic named "%s"', (topic) => {
    expect(() => defineTopics({ [topic]: anything() })).toThrow(TypeError)
  })
})
