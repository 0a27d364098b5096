/** The clients that a mutation may be written with, each on the same server, and PGlite on its own. */
import { fileURLToPath } from 'node:url'
import { PGlite } from '@electric-sql/pglite'
import { PrismaPg } from '@prisma/adapter-pg'
import { sql } from 'drizzle-orm'
import { drizzle as drizzleOnPg } from 'drizzle-orm/node-postgres'
import { drizzle as drizzleOnPostgresJs } from 'drizzle-orm/postgres-js'
import { Kysely, sql as kyselySql, PostgresDialect } from 'kysely'
import pg from 'pg'
import postgres from 'postgres'
import type { PostgresDatabase } from '../../src/postgres/database.ts'
import { generatePrismaClient } from '../support/prisma.ts'

/** A client, and how it runs a statement within its own transaction. */
export interface PostgresClient {
  name: string
  /** Undefined where there is no server. */
  db: PostgresDatabase | undefined
  // biome-ignore lint/suspicious/noExplicitAny: the transaction of whichever client
  run(tx: any, statement: string): Promise<unknown>
}

export interface PostgresClients {
  list: PostgresClient[]
  pool: pg.Pool
  pglite: PGlite
  postgresJs: postgres.Sql
  /** Rows of a statement, from the database of that client. */
  rows(client: string, statement: string, values?: unknown[]): Promise<Record<string, unknown>[]>
  close(): Promise<void>
}

/**
 * @param url of the server; undefined when there is none
 * @param testFile names the folder of the generated Prisma client
 */
export async function postgresClients(url: string | undefined, testFile: string): Promise<PostgresClients> {
  const connectionString = url ?? 'postgres://127.0.0.1:1/none'
  const pool = new pg.Pool({ connectionString, max: 6 })
  const postgresJs = postgres(connectionString, { max: 6, onnotice: () => {} })
  const drizzleClient = postgres(connectionString, { max: 6, onnotice: () => {} })
  const kysely = new Kysely<object>({
    dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString, max: 6 }) }),
  })
  const prisma = url === undefined ? undefined : await prismaClient(url, testFile)
  const pglite = new PGlite()
  const onServer = (db: PostgresDatabase) => (url === undefined ? undefined : db)
  return {
    pool,
    pglite,
    postgresJs,
    list: [
      { name: 'pg', db: onServer(pool), run: (tx, text) => tx.query(text) },
      { name: 'postgres.js', db: onServer(postgresJs), run: async (tx, text) => tx.unsafe(text) },
      {
        name: 'Drizzle on pg',
        db: onServer(drizzleOnPg({ client: pool })),
        run: (tx, text) => tx.execute(sql.raw(text)),
      },
      {
        name: 'Drizzle on postgres.js',
        db: onServer(drizzleOnPostgresJs({ client: drizzleClient })),
        run: async (tx, text) => tx.execute(sql.raw(text)),
      },
      { name: 'Kysely', db: onServer(kysely), run: (tx, text) => kyselySql.raw(text).execute(tx) },
      { name: 'Prisma', db: prisma, run: (tx, text) => tx.$executeRawUnsafe(text) },
      { name: 'PGlite', db: pglite, run: (tx, text) => tx.query(text) },
    ],
    async rows(client, statement, values = []) {
      const { rows } =
        client === 'PGlite' ? await pglite.query(statement, values) : await pool.query(statement, values)
      return rows as Record<string, unknown>[]
    },
    async close() {
      await Promise.all([
        ...[pool.end(), postgresJs.end(), drizzleClient.end(), kysely.destroy()],
        ...[prisma?.$disconnect(), pglite.close()],
      ])
    },
  }
}

/** The generated client is not there when types are checked. */
async function prismaClient(
  connectionString: string,
  testFile: string,
): Promise<PostgresDatabase & { $disconnect(): Promise<void> }> {
  const folder = fileURLToPath(new URL(`../fixtures/prisma/clients/${testFile}`, import.meta.url))
  const { PrismaClient } = await import(await generatePrismaClient(folder))
  return new PrismaClient({ adapter: new PrismaPg({ connectionString, max: 6 }) })
}
