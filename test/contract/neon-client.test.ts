import { neon, neonConfig, Pool } from '@neondatabase/serverless'
import type pg from 'pg'
import { afterAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { instrumentNeon } from '../../src/clients/database/neon.ts'
import { instrumentPg } from '../../src/clients/database/pg.ts'
import { freePort } from '../support/free-port.ts'
import { startNeonBridge } from '../support/neon-bridge.ts'
import { startPostgres } from '../support/postgres.ts'
import { type DatabaseSetUp, describeDatabaseClient, type Rows, recorder } from './database-client.ts'
import { numbered, ofPgPool } from './database-shapes.ts'

const server = await startPostgres()
const bridge = server && (await startNeonBridge(server.url))
afterAll(async () => {
  await bridge?.close()
  await server?.stop()
})

describe.skipIf(server === undefined)('@neondatabase/serverless', () => {
  neonConfig.webSocketConstructor = WebSocket
  neonConfig.useSecureWebSocket = false
  neonConfig.pipelineConnect = false
  neonConfig.wsProxy = () => `${bridge?.address}/v2`
  let httpAddress = bridge?.address
  neonConfig.fetchEndpoint = () => `http://${httpAddress}/sql`
  const url = server?.url ?? ''
  const ofPostgres: Omit<DatabaseSetUp, 'connect' | 'target'> = {
    system: 'postgresql',
    log: () => server?.log(),
    isCommented: true,
  }

  describeDatabaseClient('its Pool, over a WebSocket', {
    ...ofPostgres,
    target: {
      'db.namespace': 'postgres',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
    },
    connect: async () =>
      ofPgPool(instrumentPg(new Pool({ connectionString: url, max: 2 }) as unknown as pg.Pool)),
  })

  const connect = async () => {
    const sql = instrumentNeon(neon(url))
    return {
      query: async (text: string, values: readonly unknown[] = []) =>
        (await sql.query(numbered(text), [...values])) as Rows,
      close: async () => {},
    }
  }
  describeDatabaseClient('its neon(), over HTTP', {
    ...ofPostgres,
    target: {},
    hasTransactions: false,
    connect,
  })

  const sql = instrumentNeon(neon(url))

  it('names the network failure of a query', async () => {
    httpAddress = `127.0.0.1:${await freePort()}`
    const [span] = await recorder.spansOf('lost', () => expect(sql`SELECT 1`).rejects.toThrow(/connecting/))
    httpAddress = bridge?.address
    expect(span?.attributes['error.type']).toBe('ECONNREFUSED')
  })

  it('reads a template with its fragments, and comments it', async () => {
    const where = sql`WHERE n > ${3}`
    const [span] = await recorder.spansOf('template', async () => {
      const rows = await sql`SELECT n FROM ${sql.unsafe('generate_series(1, 4)')} AS n ${where}`
      expect(rows).toEqual([{ n: 4 }])
    })
    expect(span?.attributes['db.query.text']).toBe('SELECT n FROM $1 AS n WHERE n > $1')
    expect(server?.log()?.includes("correlation_id='template'")).toBe(true)
  })

  it.each([
    ['a list', (list: typeof sql) => sql.transaction([list`SELECT 1 AS one`, list.query('SELECT 2 AS two')])],
    ['a function', () => sql.transaction((tx) => [tx`SELECT 1 AS one`, tx.query('SELECT 2 AS two')])],
  ])('shows a transaction of %s as one span with its size', async (_title, run) => {
    const spans = await recorder.spansOf('batch', async () => {
      expect(await run(sql)).toEqual([[{ one: 1 }], [{ two: 2 }]])
    })
    expect(spans).toHaveLength(1)
    expect(spans[0]?.attributes).toMatchObject({
      'db.operation.name': 'SELECT',
      'db.operation.batch.size': 2,
      'db.query.text': 'SELECT ? AS one; SELECT ? AS two',
    })
    const commented = (server?.log() ?? '').match(/SELECT \d AS (one|two) \/\*correlation_id='batch'/g)
    expect(new Set(commented).size).toBe(2)
  })

  it('sends a query again, in another request, with that one', async () => {
    const query = sql`SELECT 3 AS again`
    for (const id of ['again-1', 'again-2']) {
      await recorder.spansOf(id, () => query)
      await recorder.spansOf(`${id}-batch`, () => sql.transaction([query]))
    }
    const ids = [...(server?.log() ?? '').matchAll(/AS again \/\*correlation_id='([^']+)'[^*]*\*\/$/gm)]
    expect(new Set(ids.map(([, id]) => id))).toEqual(
      new Set(['again-1', 'again-1-batch', 'again-2', 'again-2-batch']),
    )
  })

  it('makes the same of a query function that is traced already', async () => {
    expect(instrumentNeon(sql)).toBe(sql)
    const query = sql`SELECT 4 AS both`
    await recorder.spansOf('both', () => sql.transaction([query, query]))
    const lines = (server?.log() ?? '').split('\n').filter((line) => line.includes('AS both'))
    expect(lines.map((line) => line.split('/*').length)).toEqual([2, 2])
  })

  it('refuses what is no query function', () => {
    expect(() => instrumentNeon({} as typeof sql)).toThrow(TypeError)
  })
})
