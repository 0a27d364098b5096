import pg from 'pg'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { instrumentPg } from '../../src/clients/database/pg.ts'
import { setClientSettings } from '../../src/clients/settings.ts'
import { startPostgres } from '../support/postgres.ts'
import {
  type DatabaseClient,
  type DatabaseSetUp,
  describeDatabaseClient,
  recorder,
} from './database-client.ts'
import { numbered, ofPgPool } from './database-shapes.ts'

const server = await startPostgres()
afterAll(() => server?.stop())

describe.skipIf(server === undefined)('pg', () => {
  const url = server?.url ?? ''
  const ofPostgres: Omit<DatabaseSetUp, 'connect'> = {
    system: 'postgresql',
    target: {
      'db.namespace': 'postgres',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
    },
    log: () => server?.log(),
    isCommented: true,
  }
  const connect = async (connectionString: string) =>
    ofPgPool(instrumentPg(new pg.Pool({ connectionString, max: 2 })))
  describeDatabaseClient('pg with promises', {
    ...ofPostgres,
    connect: () => connect(url),
    connectToNothing: (port) => connect(`postgres://postgres@127.0.0.1:${port}/postgres`),
  })
  describeDatabaseClient('pg with callbacks', {
    ...ofPostgres,
    hasTransactions: false,
    connect: async () => withCallbacks(instrumentPg(new pg.Pool({ connectionString: url, max: 2 }))),
  })

  const pool = instrumentPg(new pg.Pool({ connectionString: url, max: 2 }))
  afterAll(() => pool.end())
  afterEach(() => setClientSettings({ sqlComments: true, sqlApplicationName: false }))

  it('shows a stream until its last row, and keeps its failures where they were', async () => {
    const [span, ...others] = await recorder.spansOf('stream', async () => {
      const client = await pool.connect()
      const stream = client.query(new QueryStream('SELECT n FROM generate_series(1, 500) AS n', []))
      let rows = 0
      for await (const _row of stream) rows += 1
      expect(rows).toBe(500)
      client.release()
    })
    expect(others).toEqual([])
    expect(span?.name).toBe('SELECT postgres')
    expect(linesWith('generate_series(1, 500)').some((line) => line.includes("='stream'"))).toBe(true)
    const failed = await recorder.spansOf('failing-stream', async () => {
      const client = await pool.connect()
      const stream = client.query(new QueryStream('SELECT 1 / 0', []))
      await expect(stream.toArray()).rejects.toThrow('division by zero')
      client.release()
    })
    expect(failed.map((span) => span.attributes['error.type'])).toEqual(['22012'])
  })

  it('shows a cursor until it is closed', async () => {
    const [span] = await recorder.spansOf('cursor', async () => {
      const client = await pool.connect()
      const cursor = client.query(new Cursor('SELECT n FROM generate_series(1, 5) AS n'))
      expect(await cursor.read(2)).toEqual([{ n: 1 }, { n: 2 }])
      await cursor.close()
      client.release()
    })
    expect(span?.name).toBe('SELECT postgres')
    expect(linesWith('generate_series(1, 5)').some((line) => line.includes("='cursor'"))).toBe(true)
  })

  it('leaves the text of a named statement alone, because it is prepared under it', async () => {
    for (const id of ['named-1', 'named-2']) {
      const [span] = await recorder.spansOf(id, () =>
        pool.query({ name: 'by-id', text: 'SELECT $1::int AS prepared_once', values: [1] }),
      )
      expect(span?.attributes['correlation.id']).toBe(id)
    }
    expect(linesWith('prepared_once').some((line) => line.includes('correlation_id'))).toBe(false)
  })

  it('takes a statement of a class of its own, as a template tag makes it', async () => {
    class Template {
      readonly #values = [42]
      get text() {
        return 'SELECT $1::int AS tagged'
      }
      get values() {
        return this.#values
      }
    }
    await recorder.spansOf('template', async () => {
      expect((await pool.query(new Template())).rows).toEqual([{ tagged: 42 }])
    })
    expect(linesWith('tagged').some((line) => line.includes("correlation_id='template'"))).toBe(true)
  })

  it('sends statements as they are when comments are off, with their spans', async () => {
    setClientSettings({ sqlComments: false })
    const spans = await recorder.spansOf('no-comment', () => pool.query('SELECT 1 AS uncommented'))
    expect(spans).toHaveLength(1)
    expect(linesWith('uncommented').some((line) => line.includes('no-comment'))).toBe(false)
  })

  it('bears the ID as application_name instead, one round trip for each request on a connection', async () => {
    setClientSettings({ sqlComments: false, sqlApplicationName: true })
    const own = instrumentPg(new pg.Pool({ connectionString: url, max: 1 }))
    const nameSeen = async () =>
      (await own.query("SELECT current_setting('application_name') AS name")).rows[0].name
    const spans = await recorder.spansOf('bearer-1', async () => {
      expect(await nameSeen()).toBe('bearer-1')
      await own.query({ name: 'plan', text: 'SELECT 1 AS planned' })
      const client = await own.connect()
      await client.query('BEGIN')
      await expect(client.query('SELECT 1 / 0')).rejects.toThrow()
      await client.query('ROLLBACK')
      client.release()
      expect(await nameSeen()).toBe('bearer-1')
    })
    expect(spans.map((span) => span.name)).not.toContain('SELECT set_config')
    expect(spans).toHaveLength(6)
    await recorder.spansOf("bearer';--2", async () => expect(await nameSeen()).toBe("bearer';--2"))
    expect(await nameSeen()).toBe('')
    const named = linesWith("set_config('application_name'")
    expect(named).toHaveLength(3)
    await own.end()
  })

  it('leaves the spans to an OpenTelemetry instrumentation that wraps the client too', async () => {
    class OtherClient extends pg.Client {}
    const { query } = pg.Client.prototype
    OtherClient.prototype.query = Object.assign(
      function (this: pg.Client, ...args: unknown[]) {
        return (query as (...all: unknown[]) => unknown).apply(this, args)
      },
      { __wrapped: true },
    ) as typeof query
    const client = new OtherClient({ connectionString: url })
    await client.connect()
    const spans = await recorder.spansOf('other', () => client.query('SELECT 1 AS theirs'))
    expect(spans).toEqual([])
    await client.end()
    expect(linesWith('theirs').some((line) => line.includes("correlation_id='other'"))).toBe(true)
  })

  it('refuses what is no client', () => {
    expect(() => instrumentPg({} as pg.Pool)).toThrow(TypeError)
  })

  function linesWith(text: string): string[] {
    return (server?.log() ?? '').split('\n').filter((line) => line.includes(text))
  }
})

function withCallbacks(pool: pg.Pool): DatabaseClient {
  return {
    query: (sql, values = []) =>
      new Promise((resolve, reject) => {
        pool.query(numbered(sql), [...values], (error, result) =>
          error ? reject(error) : resolve(result.rows),
        )
      }),
    close: () => pool.end(),
  }
}
