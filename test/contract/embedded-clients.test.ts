/** The databases that run in the app's own process. */
import { DatabaseSync } from 'node:sqlite'
import { PGlite } from '@electric-sql/pglite'
import Database from 'better-sqlite3'
import { expect, it } from 'vitest'
import { instrumentBetterSqlite3 } from '../../src/clients/database/better-sqlite3.ts'
import { instrumentPglite } from '../../src/clients/database/pglite.ts'
import { describeDatabaseClient, type Rows, recorder } from './database-client.ts'
import { numbered } from './database-shapes.ts'

describeDatabaseClient('PGlite', {
  system: 'postgresql',
  target: { 'db.namespace': 'postgres' },
  isCommented: true,
  async connect() {
    const db = instrumentPglite(new PGlite())
    return {
      query: async (sql, values = []) =>
        (await db.query<Record<string, unknown>>(numbered(sql), [...values])).rows,
      transaction: (first, second) =>
        db.transaction(async (tx) => {
          await tx.query(first)
          await tx.exec(second)
        }),
      close: () => db.close(),
    }
  },
})

describeDatabaseClient('better-sqlite3', {
  system: 'sqlite',
  target: { 'db.namespace': ':memory:' },
  isCommented: false,
  async connect() {
    const db = instrumentBetterSqlite3(new Database(':memory:'))
    return {
      query: async (sql, values = []) => {
        const statement = db.prepare(sql)
        if (statement.reader) return statement.all(...values) as Rows
        statement.run(...values)
        return []
      },
      transaction: async (first, second) =>
        db.transaction(() => {
          db.prepare(first).run()
          db.exec(second)
        })(),
      close: async () => db.close(),
    }
  },
})

describeDatabaseClient('node:sqlite', {
  system: 'sqlite',
  target: {},
  isCommented: false,
  hasTransactions: false,
  async connect() {
    const db = instrumentBetterSqlite3(new DatabaseSync(':memory:'))
    return {
      query: async (sql, values = []) =>
        db
          .prepare(sql)
          .all(...(values as never[]))
          .map((row) => ({ ...row })),
      close: async () => db.close(),
    }
  },
})

it('comments what PGlite runs, in its transactions too', async () => {
  const sent: string[] = []
  const db = instrumentPglite(new PGlite({ debug: 0 }))
  const inner = db.execProtocolRaw.bind(db)
  db.execProtocolRaw = (message, ...rest) => {
    sent.push(new TextDecoder().decode(message))
    return inner(message, ...rest)
  }
  await recorder.spansOf('embedded', async () => {
    await db.query('SELECT 1 AS alone')
    await db.transaction(async (tx) => {
      await tx.query('SELECT 2 AS within')
      expect((await tx.sql`SELECT ${3}::int AS templated`).rows).toEqual([{ templated: 3 }])
    })
  })
  const commented = sent.filter((message) => message.includes("/*correlation_id='embedded'"))
  expect(commented.join()).toMatch(/AS alone .*AS within .*AS templated /s)
  await db.close()
})

it.each([
  ['better-sqlite3', () => instrumentBetterSqlite3(new Database(':memory:'))],
  ['node:sqlite', () => instrumentBetterSqlite3(new DatabaseSync(':memory:'))],
])('shows the rows that %s reads one by one as one statement', async (_name, open) => {
  const db = open()
  const rows = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n'
  const spans = await recorder.spansOf('iterate', async () => {
    expect([...db.prepare(rows).iterate()]).toHaveLength(9)
    for (const _row of db.prepare(rows).iterate()) break
  })
  expect(spans.map((span) => span.name)).toHaveLength(2)
  const [failed, returned] = await recorder.spansOf('iterate badly', async () => {
    expect(() => db.prepare('SELECT 1').iterate(1, 2, 3)).toThrow()
    db.prepare(rows).iterate().return?.()
  })
  expect(failed?.attributes['error.type']).toMatch(/^(RangeError|ERR_\w+|Error)$/)
  expect(returned?.attributes).not.toHaveProperty('error.type')
  // Nothing is left open, which would make the database busy.
  db.exec('CREATE TABLE free (a)')
  db.close()
})

it('refuses what is no database', () => {
  expect(() => instrumentPglite({} as PGlite)).toThrow(TypeError)
  expect(() => instrumentBetterSqlite3({} as Database.Database)).toThrow(TypeError)
})
