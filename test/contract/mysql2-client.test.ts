import { once } from 'node:events'
import { createPool } from 'mysql2'
import mysql from 'mysql2/promise'
import { afterAll, describe, expect, it } from 'vitest'
import { instrumentMysql2 } from '../../src/clients/database/mysql2.ts'
import { getCorrelationId } from '../../src/context/index.ts'
import { startMariadb } from '../support/mariadb.ts'
import { type DatabaseSetUp, describeDatabaseClient, recorder } from './database-client.ts'
import { asObjects, ofMysqlPool, withMysqlCallbacks } from './database-shapes.ts'

const server = await startMariadb()
afterAll(() => server?.stop())

describe.skipIf(server === undefined)('mysql2', () => {
  const url = server?.url ?? ''
  const ofMariadb: Omit<DatabaseSetUp, 'connect' | 'isCommented'> = {
    system: 'mysql',
    target: {
      'db.namespace': 'shop',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
    },
    log: () => server?.log(),
  }
  const connect = async (uri: string, method: 'query' | 'execute') =>
    ofMysqlPool(instrumentMysql2(mysql.createPool({ uri, connectionLimit: 2 })), method)
  const elsewhere = (port: number) => `mysql://root@127.0.0.1:${port}/shop`
  describeDatabaseClient('with promises', {
    ...ofMariadb,
    isCommented: true,
    connect: () => connect(url, 'query'),
    connectToNothing: (port) => connect(elsewhere(port), 'query'),
  })
  describeDatabaseClient('with prepared statements', {
    ...ofMariadb,
    isCommented: false,
    connect: () => connect(url, 'execute'),
    connectToNothing: (port) => connect(elsewhere(port), 'execute'),
  })
  describeDatabaseClient('with callbacks', {
    ...ofMariadb,
    isCommented: true,
    hasTransactions: false,
    connect: async () => withMysqlCallbacks(instrumentMysql2(createPool({ uri: url, connectionLimit: 2 }))),
  })

  it('shows a stream until its last row, and a single connection', async () => {
    const pool = instrumentMysql2(createPool({ uri: url, connectionLimit: 1 }))
    const single = instrumentMysql2(await mysql.createConnection(url))
    const spans = await recorder.spansOf('stream', async () => {
      let rows = 0
      for await (const _row of pool.query('SELECT seq FROM seq_1_to_300').stream()) rows += 1
      expect(rows).toBe(300)
      await single.query({ sql: 'SELECT ? AS by_options', values: [1] })
    })
    expect(spans.map((span) => span.name)).toEqual(['SELECT seq_1_to_300', 'SELECT shop'])
    expect(server?.log()?.includes("AS by_options /*correlation_id='stream'")).toBe(true)
    pool.end(() => {})
    await single.end()
  })

  it('keeps listeners in the request that listens', async () => {
    const pool = instrumentMysql2(createPool({ uri: url, connectionLimit: 1 }))
    await recorder.inRequest('opener', () => pool.promise().query('SELECT 1'))
    const ids: (string | undefined)[] = []
    await recorder.inRequest('listener', async () => {
      const query = pool.query('SELECT 1')
      query.on('result', () => ids.push(getCorrelationId()))
      await once(query, 'end')
      const stream = pool.query('SELECT 2').stream()
      stream.on('data', () => ids.push(getCorrelationId()))
      await once(stream, 'end')
    })
    expect(ids).toEqual(['listener', 'listener'])
    pool.end(() => {})
  })

  it('traces a pool that has connections already, and a pool that is handed in often once', async () => {
    const pool = mysql.createPool({ uri: url, connectionLimit: 1 })
    await pool.query('SELECT 1')
    for (let time = 0; time < 20; time += 1) instrumentMysql2(pool)
    expect(pool.pool.listenerCount('connection')).toBeLessThan(3)
    expect(await recorder.spansOf('late', () => pool.query('SELECT 1'))).toHaveLength(1)
    await pool.end()
  })

  it('fails a connection once for all that waits on it', async () => {
    const spans = await recorder.spansOf('killed', async () => {
      const pool = instrumentMysql2(mysql.createPool({ uri: url, connectionLimit: 1 }))
      const connection = await pool.getConnection()
      const [rows] = await connection.query('SELECT CONNECTION_ID() AS id')
      const sleeping = expect(connection.query('SELECT SLEEP(10)')).rejects.toThrow()
      const killer = await mysql.createConnection(url)
      await killer.query(`KILL ${Number(asObjects(rows)[0]?.id)}`)
      await sleeping
      await killer.end()
      connection.destroy()
      await pool.end()
    })
    const failed = spans.filter((span) => span.attributes['error.type'] !== undefined)
    expect(failed).toHaveLength(1)
    expect(failed[0]?.attributes['error.type']).toMatch(/^(PROTOCOL_CONNECTION_LOST|ECONNRESET|ER_\w+)$/)
  })

  it('refuses what is no client', () => {
    expect(() => instrumentMysql2({} as mysql.Pool)).toThrow(TypeError)
  })
})
