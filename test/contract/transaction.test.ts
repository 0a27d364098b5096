import { randomUUID } from 'node:crypto'
import { SpanStatusCode } from '@opentelemetry/api'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runOnce } from '../../src/idempotency/index.ts'
import { migrate, postgresStore } from '../../src/idempotency/stores/postgres.ts'
import type { PostgresDatabase } from '../../src/postgres/database.ts'
import { transaction } from '../../src/postgres/transaction.ts'
import { startPostgres } from '../support/postgres.ts'
import { recordSpans } from '../support/traced-requests.ts'
import { postgresClients } from './postgres-clients.ts'

const server = await startPostgres()
const recorder = recordSpans()
const clients = await postgresClients(server?.url, 'transaction')
const { pool, pglite, postgresJs } = clients

beforeAll(async () => {
  await pglite.exec('CREATE TABLE notes (text text)')
  await migrate(pglite)
  if (server === undefined) return
  await pool.query('CREATE TABLE notes (text text)')
  await migrate(pool)
})
afterAll(async () => {
  await clients.close()
  await server?.stop()
})

/** A statement that fails with that SQLSTATE. */
const failing = (state: string) => `DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '${state}'; END $$`

describe.each(clients.list)('transaction on $name', ({ name, db, run }) => {
  describe.skipIf(db === undefined)('', () => {
    const database = db as PostgresDatabase
    const note = (tx: unknown, text: string) => run(tx, `INSERT INTO notes VALUES ('${text}')`)

    it('commits what its body writes, and resolves to what that does', async () => {
      const text = randomUUID()
      const [span] = await recorder.spansOf('commit', async () => {
        const value = await transaction(database, async (tx) => {
          await note(tx, text)
          await note(tx, text)
          return 7
        })
        expect(value).toBe(7)
      })
      expect(await notesLike(name, text)).toBe(2)
      expect(span?.name).toBe('transaction')
      expect(span?.attributes).toMatchObject({
        'transaction.outcome': 'commit',
        'transaction.attempts': 1,
        'correlation.id': 'commit',
      })
    })

    it('rolls all of it back when its body throws, which is no error of the span', async () => {
      const text = randomUUID()
      const [span] = await recorder.spansOf('rollback', () =>
        expect(
          transaction(database, async (tx) => {
            await note(tx, text)
            throw new Error('changed my mind')
          }),
        ).rejects.toThrow('changed my mind'),
      )
      expect(await notesLike(name, text)).toBe(0)
      expect(span?.attributes).toMatchObject({ 'transaction.outcome': 'rollback', 'transaction.attempts': 1 })
      expect(span?.status.code).toBe(SpanStatusCode.UNSET)
    })

    it.each(['40001', '40P01'])(
      'runs the whole body again after %s, and only then commits',
      async (state) => {
        const text = randomUUID()
        let runs = 0
        const [span] = await recorder.spansOf('retried', () =>
          transaction(database, async (tx) => {
            runs += 1
            await note(tx, text)
            if (runs < 3) await run(tx, failing(state))
          }),
        )
        expect(runs).toBe(3)
        expect(await notesLike(name, text)).toBe(1)
        expect(span?.attributes).toMatchObject({ 'transaction.outcome': 'commit', 'transaction.attempts': 3 })
        expect(span?.events.map((event) => [event.name, event.attributes?.['error.type']])).toEqual([
          ['transaction.retry', state],
          ['transaction.retry', state],
        ])
      },
    )

    it('gives up after the attempts it has, and says why', async () => {
      let runs = 0
      const [span] = await recorder.spansOf('given-up', () =>
        expect(
          transaction(
            database,
            async (tx) => {
              runs += 1
              await run(tx, failing('40001'))
            },
            { maxAttempts: 2 },
          ),
        ).rejects.toThrow(),
      )
      expect(runs).toBe(2)
      expect(span?.attributes).toMatchObject({ 'transaction.outcome': 'rollback', 'error.type': '40001' })
      expect(span?.status.code).toBe(SpanStatusCode.ERROR)
    })

    it('runs nothing again for another failure', async () => {
      let runs = 0
      const failed = transaction(database, async (tx) => {
        runs += 1
        await run(tx, failing('23505'))
      })
      await expect(failed).rejects.toThrow()
      expect(runs).toBe(1)
    })

    it('refuses to be opened within another, which it leaves as it was', async () => {
      const text = randomUUID()
      await transaction(database, async (tx) => {
        const inner = transaction(database, async () => {})
        await expect(inner).rejects.toMatchObject({ code: 'TRANSACTION_NESTED' })
        await note(tx, text)
      })
      expect(await notesLike(name, text)).toBe(1)
    })

    it('is the own transaction of a guarded run, and commits with its claim', async () => {
      const store = postgresStore(database)
      const text = randomUUID()
      const use = { name: 'note', scope: 'user-1', key: randomUUID(), payload: {} }
      const guarded = (fails: boolean) =>
        runOnce(store, use, async (guardedRun) =>
          transaction(database, async (tx) => {
            expect(tx).toBe((guardedRun as { tx: unknown }).tx)
            await note(tx, text)
            if (fails) throw new Error('after the write')
            return 'noted'
          }),
        )
      await expect(guarded(true)).rejects.toThrow('after the write')
      expect(await notesLike(name, text)).toBe(0)
      expect([await guarded(false), await guarded(false)]).toEqual(['noted', 'noted'])
      expect(await notesLike(name, text)).toBe(1)
    })

    it('takes the isolation that it is given', async () => {
      await transaction(
        database,
        async (tx) => {
          const isSerializable = "current_setting('transaction_isolation') = 'serializable'"
          await run(tx, `DO $$ BEGIN ASSERT ${isSerializable}; END $$`)
        },
        { isolation: 'serializable' },
      )
    })
  })
})

describe.skipIf(server === undefined)('transactions that meet', () => {
  it('both commit, in the end, when the server finds that they cannot be put in an order', async () => {
    await pool.query('CREATE TABLE counters (name text PRIMARY KEY, n int)')
    await pool.query("INSERT INTO counters VALUES ('a', 0), ('b', 0)")
    const both = meeting()
    let reads = 0
    const increase = () =>
      transaction(
        pool,
        async (tx) => {
          const { rows } = await tx.query('SELECT sum(n)::int AS n FROM counters')
          reads += 1
          if (reads === 2) both.resolve()
          await both.promise
          await tx.query("UPDATE counters SET n = $1 WHERE name = 'a'", [rows[0].n + 1])
        },
        { isolation: 'serializable' },
      )
    await Promise.all([increase(), increase()])
    expect(reads).toBeGreaterThan(2)
    expect((await pool.query("SELECT n FROM counters WHERE name = 'a'")).rows).toEqual([{ n: 2 }])
  })

  it('both commit when they lock each other', async () => {
    await pool.query('CREATE TABLE locks (name text PRIMARY KEY, n int DEFAULT 0)')
    await pool.query("INSERT INTO locks VALUES ('a'), ('b')")
    const both = meeting()
    let holders = 0
    const lock = (first: string, second: string) =>
      transaction(pool, async (tx) => {
        await tx.query('UPDATE locks SET n = n + 1 WHERE name = $1', [first])
        holders += 1
        if (holders === 2) both.resolve()
        await both.promise
        await tx.query('UPDATE locks SET n = n + 1 WHERE name = $1', [second])
      })
    await Promise.all([lock('a', 'b'), lock('b', 'a')])
    expect(holders).toBe(3)
    expect((await pool.query('SELECT n FROM locks')).rows).toEqual([{ n: 2 }, { n: 2 }])
  })

  it('are apart on two clients: the inner one is its own', async () => {
    const text = randomUUID()
    const outer = transaction(pool, async (tx) => {
      await tx.query('INSERT INTO notes VALUES ($1)', [text])
      await transaction(postgresJs, async (other) => {
        await other`INSERT INTO notes VALUES (${text})`
      })
      throw new Error('the outer one')
    })
    await expect(outer).rejects.toThrow('the outer one')
    expect(await notesLike('pg', text)).toBe(1)
  })

  it('refuse what they cannot be', async () => {
    await expect(transaction({} as pg.Pool, async () => {})).rejects.toThrow(/transaction: "db" must be/)
    const never = transaction(pool, async () => {}, { maxAttempts: 0 })
    await expect(never).rejects.toThrow(/"maxAttempts" must be a whole number above 0, received 0/)
  })
})

/** A promise that both of two wait for. */
function meeting(): { promise: Promise<void>; resolve(): void } {
  let resolve = () => {}
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

async function notesLike(client: string, text: string): Promise<number> {
  const [row] = await clients.rows(client, 'SELECT count(*)::int AS n FROM notes WHERE text = $1', [text])
  return Number(row?.n)
}
