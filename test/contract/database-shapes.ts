/** What the tests of database clients share: placeholders, and the shapes of a few clients. */
import type { Pool as MysqlPool } from 'mysql2'
import type { Pool as MysqlPromisePool } from 'mysql2/promise'
import type pg from 'pg'
import type { DatabaseClient, Rows } from './database-client.ts'

export function ofPgPool(pool: pg.Pool): DatabaseClient {
  return {
    query: async (sql, values = []) => (await pool.query(numbered(sql), [...values])).rows,
    async transaction(first, second) {
      const client = await pool.connect()
      try {
        await client.query('BEGIN')
        await client.query(first)
        await client.query(second)
        await client.query('COMMIT')
      } catch (error) {
        await client.query('ROLLBACK')
        throw error
      } finally {
        client.release()
      }
    },
    close: () => pool.end(),
  }
}

export function numbered(sql: string): string {
  let position = 0
  return sql.replaceAll('?', () => {
    position += 1
    return `$${position}`
  })
}

const templates = new Map<string, TemplateStringsArray>()

export function templateOf(sql: string): TemplateStringsArray {
  const strings = sql.split('?')
  const template = templates.get(sql) ?? Object.assign(strings, { raw: strings })
  templates.set(sql, template)
  return template
}

export function asObjects(rows: unknown): Rows {
  return Array.isArray(rows) ? rows.map((row) => ({ ...row })) : []
}

type Run = (sql: string, values?: never) => Promise<[unknown, unknown]>

export function ofMysqlPool(pool: MysqlPromisePool, method: 'query' | 'execute'): DatabaseClient {
  return {
    query: async (sql, values = []) => {
      const run = pool[method].bind(pool) as Run
      const [rows] = await (/^(CREATE|DROP)/.test(sql) ? pool.query(sql) : run(sql, [...values] as never))
      return asObjects(rows)
    },
    async transaction(first, second) {
      const connection = await pool.getConnection()
      const run = connection[method].bind(connection) as Run
      try {
        await connection.beginTransaction()
        await run(first)
        await run(second)
        await connection.commit()
      } catch (error) {
        await connection.rollback()
        throw error
      } finally {
        connection.release()
      }
    },
    close: () => pool.end(),
  }
}

export function withMysqlCallbacks(pool: MysqlPool): DatabaseClient {
  return {
    query: (sql, values = []) =>
      new Promise((resolve, reject) => {
        pool.query(sql, [...values], (error, rows) => (error ? reject(error) : resolve(asObjects(rows))))
      }),
    close: () => new Promise((resolve) => pool.end(resolve)),
  }
}
