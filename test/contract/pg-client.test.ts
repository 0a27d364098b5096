import { once } from 'node:events'
import pg from 'pg'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { instrumentPg } from '../../src/clients/database/pg.ts'
import { setClientSettings } from '../../src/clients/settings.ts'
import { getCorrelationId } from '../../src/context/index.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
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

  it('shows a cursor that failed, and one whose connection is gone', async () => {
    const [failed] = await recorder.spansOf('failed-cursor', async () => {
      const client = await pool.connect()
      await expect(client.query(new Cursor('SELECT 1 / 0')).read(1)).rejects.toThrow('division by zero')
      client.release()
    })
    expect(failed?.attributes['error.type']).toBe('22012')
    const [cut] = await recorder
      .spansOf('cut-cursor', async () => {
        const client = new pg.Client({ connectionString: url })
        client.on('error', () => {})
        await client.connect()
        const { rows } = await client.query('SELECT pg_backend_pid() AS pid')
        const cursor = client.query(new Cursor('SELECT pg_sleep(20)'))
        const read = expect(cursor.read(1)).rejects.toThrow()
        await pool.query('SELECT pg_terminate_backend($1)', [rows[0].pid])
        await read
      })
      .then((spans) => spans.filter((span) => span.attributes['error.type'] !== undefined))
    expect(cut?.attributes['error.type']).toBe('57P01')
  })

  it('takes a stream that its reader ended for no failure', async () => {
    const [span] = await recorder.spansOf('ended-stream', async () => {
      const client = await pool.connect()
      for await (const _row of client.query(
        new QueryStream('SELECT n FROM generate_series(1, 900) AS n', []),
      ))
        break
      await client.query('SELECT 1')
      client.release()
    })
    expect(span?.attributes).not.toHaveProperty('error.type')
  })

  it('keeps listeners in the request that listens, also for what they ask', async () => {
    const own = instrumentPg(new pg.Pool({ connectionString: url, max: 1 }))
    const ids: (string | undefined)[] = []
    await recorder.inRequest('opener', () => own.query('SELECT 1'))
    await recorder.inRequest('listener', async () => {
      const client = await own.connect()
      const stream = client.query(new QueryStream('SELECT n FROM generate_series(1, 3) AS n', []))
      stream.on('data', () => {
        ids.push(getCorrelationId())
        void pool.query('SELECT 1 AS nested')
      })
      await once(stream, 'end')
      const query = client.query(new pg.Query('SELECT 1'))
      query.on('row', () => ids.push(getCorrelationId()))
      await once(query, 'end')
      const cursor = client.query(new Cursor('SELECT 1'))
      await new Promise((resolve) => cursor.read(1, () => resolve(ids.push(getCorrelationId()))))
      await cursor.close()
      client.release()
    })
    expect(ids).toEqual(Array(5).fill('listener'))
    await eventually(() => {
      const nested = linesWith('AS nested')
      expect(nested).toHaveLength(3)
      for (const line of nested) expect(line).toContain("correlation_id='listener'")
    })
    await own.end()
  })

  it('leaves a failure that nobody handles to whom it concerns', async () => {
    const unhandled: unknown[] = []
    const note = (error: Error) => unhandled.push(error.message)
    process.on('unhandledRejection', note)
    const client = await pool.connect()
    await recorder.inRequest('careless', async () => {
      client.query('SELECT nothing_there').constructor
      new pg.Client({ port: await freePort(), host: '127.0.0.1' }).connect().constructor
    })
    await eventually(() => expect(unhandled).toHaveLength(2))
    process.off('unhandledRejection', note)
    client.release()
  })

  it('makes one span of a statement that a subclass hands on', async () => {
    class Counted extends pg.Client {
      override query(...args: unknown[]): never {
        return (super.query as (...all: unknown[]) => never)(...args)
      }
    }
    const client = instrumentPg(new Counted({ connectionString: url }))
    await client.connect()
    const spans = await recorder.spansOf(
      'subclass',
      () => client.query('SELECT 1 AS counted') as Promise<unknown>,
    )
    expect(spans).toHaveLength(1)
    await client.end()
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
      get text() {
        return 'SELECT $1::int AS tagged'
      }
      get values() {
        return [42]
      }
      get rowMode() {
        return 'array'
      }
    }
    await recorder.spansOf('template', async () => {
      expect((await pool.query(new Template())).rows).toEqual([[42]])
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
    const own = instrumentPg(new pg.Pool({ connectionString: url, max: 1, application_name: 'shop' }))
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
    expect(await nameSeen()).toBe('shop')
    expect(linesWith("set_config('application_name'")).toHaveLength(2)
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
