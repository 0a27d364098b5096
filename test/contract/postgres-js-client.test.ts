import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import postgres from 'postgres'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { instrumentPostgres } from '../../src/clients/database/postgres.ts'
import { setClientSettings } from '../../src/clients/settings.ts'
import { getCorrelationId } from '../../src/context/index.ts'
import { startPostgres } from '../support/postgres.ts'
import {
  type DatabaseClient,
  type DatabaseSetUp,
  describeDatabaseClient,
  type Rows,
  recorder,
} from './database-client.ts'
import { templateOf } from './database-shapes.ts'

const server = await startPostgres()
afterAll(() => server?.stop())

describe.skipIf(server === undefined)('postgres.js', () => {
  const url = server?.url ?? ''
  const ofPostgres: Omit<DatabaseSetUp, 'connect' | 'isCommented'> = {
    system: 'postgresql',
    target: {
      'db.namespace': 'postgres',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
    },
    log: () => server?.log(),
  }
  const connect = async (connectionString: string, isPrepared: boolean): Promise<DatabaseClient> => {
    const sql = instrumentPostgres(
      postgres(connectionString, { max: 2, prepare: isPrepared, onnotice: () => {} }),
    )
    return {
      // As a template, which is prepared unless the client says otherwise.
      query: async (text, values = []) => [...(await sql(templateOf(text), ...(values as never[])))] as Rows,
      transaction: (first, second) =>
        sql.begin(async (tx) => {
          await tx(templateOf(first))
          await tx(templateOf(second))
        }),
      close: () => sql.end(),
    }
  }
  describeDatabaseClient('with prepared statements', {
    ...ofPostgres,
    isCommented: false,
    connect: () => connect(url, true),
    connectToNothing: (port) => connect(`postgres://postgres@127.0.0.1:${port}/postgres`, true),
  })
  describeDatabaseClient('without them', {
    ...ofPostgres,
    isCommented: true,
    connect: () => connect(url, false),
  })

  const sql = instrumentPostgres(postgres(url, { max: 1, onnotice: () => {} }))
  const unprepared = instrumentPostgres(postgres(url, { max: 1, prepare: false }))
  afterAll(() => Promise.all([sql.end(), unprepared.end()]))
  afterEach(() => setClientSettings({ sqlComments: true, sqlApplicationName: false }))

  it('comments what it does not prepare: unsafe(), simple(), prepare: false', async () => {
    const spans = await recorder.spansOf('unprepared', async () => {
      await sql.unsafe('SELECT $1::int AS by_unsafe', [1])
      await sql`SELECT 1 AS by_simple`.simple()
      await sql`SELECT 1 AS by_default`
    })
    await recorder.spansOf('ends-in-a-value', () => unprepared`SELECT 1 AS by_value WHERE true = ${true}`)
    expect(spans.map((span) => span.attributes['db.query.text'])).toEqual([
      'SELECT $1::int AS by_unsafe',
      'SELECT ? AS by_simple',
      'SELECT ? AS by_default',
    ])
    expect(idsOf('by_unsafe')).toEqual(['unprepared'])
    expect(idsOf('by_simple')).toEqual(['unprepared'])
    expect(idsOf('by_default')).toEqual([undefined])
    expect(idsOf('by_value')).toEqual(['ends-in-a-value'])
  })

  it('leaves one prepared statement behind, however many requests send it', async () => {
    for (let request = 0; request < 20; request += 1)
      await recorder.spansOf(`plan-${request}`, () => sql`SELECT ${request}::int AS planned_once`)
    const [{ count } = { count: undefined }] =
      await sql`SELECT count(*)::int FROM pg_prepared_statements WHERE statement LIKE '%AS planned_once%'
        AND statement NOT LIKE '%pg_prepared%'`
    expect(count).toBe(1)
  })

  it('bears the ID as application_name in a transaction, and gives it back after', async () => {
    setClientSettings({ sqlComments: false, sqlApplicationName: true })
    const spans = await recorder.spansOf('bearer', () =>
      sql.begin(async (tx) => {
        const [row] = await tx`SELECT current_setting('application_name') AS name`
        expect(row?.name).toBe('bearer')
      }),
    )
    expect(spans).toHaveLength(1)
    const [row] = await sql`SELECT current_setting('application_name') AS name`
    expect(row?.name).toBe('postgres.js')
  })

  it('reads identifiers and fragments, and shows no value that looks like one', async () => {
    await sql`CREATE TABLE IF NOT EXISTS shelf (n int, note jsonb)`
    const plain = { value: '"secret"', strings: ['secret'], args: [] }
    const spans = await recorder.spansOf('pieces', async () => {
      await sql`INSERT INTO ${sql('shelf')} ${sql({ n: 1, note: sql.json(plain) })}`
      await sql`SELECT ${sql('n')} FROM ${sql('public.shelf')} WHERE ${sql`n = ${1}`} AND note = ${plain as never}`
    })
    expect(spans.map((span) => span.name)).toEqual(['INSERT shelf', 'SELECT public.shelf'])
    expect(spans[1]?.attributes['db.query.text']).toBe(
      'SELECT "n" FROM "public"."shelf" WHERE n = $1 AND note = $4',
    )
    expect(JSON.stringify(spans.map((span) => span.attributes))).not.toContain('secret')
  })

  it('covers savepoints and reserved connections', async () => {
    const spans = await recorder.spansOf('nested', async () => {
      await sql.begin(async (tx) => {
        await tx.savepoint(async (inner) => {
          await inner`SELECT 1 AS within`
        })
      })
      const reserved = await sql.reserve()
      await reserved`SELECT 2 AS reserved`
      reserved.release()
    })
    expect(spans.map((span) => span.attributes['db.query.text'])).toEqual([
      'SELECT ? AS within',
      'SELECT ? AS reserved',
    ])
  })

  it('shows a cursor and a list of rows until the last, or until the reader has enough', async () => {
    const spans = await recorder.spansOf('cursor', async () => {
      let rows = 0
      for await (const some of sql`SELECT n FROM generate_series(1, 20) AS n`.cursor(5)) rows += some.length
      await sql`SELECT n FROM generate_series(1, 5) AS n`.forEach(() => {
        rows += 1
      })
      expect(rows).toBe(25)
      for await (const _some of sql`SELECT n FROM generate_series(1, 20) AS n`.cursor(5)) break
      await sql`SELECT 'after'`
    })
    expect(spans).toHaveLength(4)
  })

  it('keeps what is done with each row in the request that asked', async () => {
    const ids: (string | undefined)[] = []
    const note = () => void ids.push(getCorrelationId())
    await recorder.inRequest('opener', () => sql`SELECT 1`)
    await recorder.inRequest('reader', async () => {
      await sql`SELECT 1`.forEach(note)
      await sql`SELECT 2`.cursor(1, note)
      for await (const _rows of sql`SELECT 3`.cursor(1)) note()
    })
    expect(ids).toEqual(['reader', 'reader', 'reader'])
  })

  it('runs a statement from a file', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'throughline-sql-'))
    writeFileSync(join(folder, 'one.sql'), 'SELECT 1 AS from_file')
    const spans = await recorder.spansOf('file', async () => {
      expect([...(await sql.file(join(folder, 'one.sql')))]).toEqual([{ from_file: 1 }])
    })
    expect(spans).toHaveLength(1)
    rmSync(folder, { recursive: true })
  })

  it('makes the same of a client that is traced already', () => {
    expect(instrumentPostgres(sql)).toBe(sql)
    expect(() => instrumentPostgres({} as typeof sql)).toThrow(TypeError)
  })

  /** The ID that each arrival of the statement bore. */
  function idsOf(text: string): (string | undefined)[] {
    const lines = (server?.log() ?? '').split('\n').filter((line) => line.includes(`AS ${text}`))
    return lines.map((line) => /correlation_id='([^']+)'/.exec(line)?.[1])
  }
})
