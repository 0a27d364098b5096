/** A traced client has the type it had: the line around it changes nothing that an app writes below it. */
import { DatabaseSync } from 'node:sqlite'
import { PGlite } from '@electric-sql/pglite'
import { type NeonQueryFunction, neon } from '@neondatabase/serverless'
import type { SqlCommenterPlugin } from '@prisma/sqlcommenter'
import { Redis as Upstash } from '@upstash/redis'
import { createClient as createVercelKv, type VercelKV } from '@vercel/kv'
import Database from 'better-sqlite3'
import { Cluster, Redis } from 'ioredis'
import mysql from 'mysql2'
import mysqlPromise from 'mysql2/promise'
import pg from 'pg'
import postgres from 'postgres'
import { createClient, type RedisClientType } from 'redis'
import { expectTypeOf, it } from 'vitest'
import { instrumentBetterSqlite3 } from '../../src/clients/database/better-sqlite3.ts'
import { instrumentMysql2 } from '../../src/clients/database/mysql2.ts'
import { instrumentNeon } from '../../src/clients/database/neon.ts'
import { instrumentPg } from '../../src/clients/database/pg.ts'
import { instrumentPglite } from '../../src/clients/database/pglite.ts'
import { instrumentPostgres } from '../../src/clients/database/postgres.ts'
import { requestComments } from '../../src/clients/database/prisma.ts'
import { instrumentIoredis } from '../../src/clients/kv/ioredis.ts'
import { instrumentRedis } from '../../src/clients/kv/node-redis.ts'
import { instrumentKv } from '../../src/clients/kv/upstash.ts'
import { withThroughline } from '../../src/next/index.ts'

interface NextConfig {
  output?: 'standalone' | 'export'
  serverExternalPackages?: string[]
}

// Nothing here is run: the types are the test.
const types = () => {
  expectTypeOf(instrumentPg(new pg.Pool())).toEqualTypeOf<pg.Pool>()
  expectTypeOf(instrumentPg(new pg.Client())).toEqualTypeOf<pg.Client>()
  expectTypeOf(instrumentPostgres(postgres(''))).toEqualTypeOf<postgres.Sql>()
  expectTypeOf(instrumentNeon(neon(''))).toEqualTypeOf<NeonQueryFunction<false, false>>()
  expectTypeOf(instrumentMysql2(mysql.createPool(''))).toEqualTypeOf<mysql.Pool>()
  expectTypeOf(instrumentMysql2(mysql.createConnection(''))).toEqualTypeOf<mysql.Connection>()
  expectTypeOf(instrumentMysql2(mysqlPromise.createPool(''))).toEqualTypeOf<mysqlPromise.Pool>()
  expectTypeOf(instrumentPglite(new PGlite())).toEqualTypeOf<PGlite>()
  expectTypeOf(instrumentBetterSqlite3(new Database(''))).toEqualTypeOf<Database.Database>()
  expectTypeOf(instrumentBetterSqlite3(new DatabaseSync(''))).toEqualTypeOf<DatabaseSync>()
  expectTypeOf(requestComments()).toExtend<SqlCommenterPlugin>()

  expectTypeOf(instrumentIoredis(new Redis())).toEqualTypeOf<Redis>()
  expectTypeOf(instrumentIoredis(new Cluster([]))).toEqualTypeOf<Cluster>()
  const nodeRedis: RedisClientType = createClient() as RedisClientType
  expectTypeOf(instrumentRedis(nodeRedis)).toEqualTypeOf<RedisClientType>()
  expectTypeOf(instrumentKv(Upstash.fromEnv())).toEqualTypeOf<Upstash>()
  expectTypeOf(instrumentKv(createVercelKv({ url: '', token: '' }))).toEqualTypeOf<VercelKV>()

  // Next's own types would widen `process.env` for every file that is checked with this one.
  const config: NextConfig = { output: 'standalone' }
  expectTypeOf(withThroughline(config)).toEqualTypeOf<NextConfig>()
  expectTypeOf(withThroughline(async (_phase: string) => config)).toEqualTypeOf<
    (phase: string) => Promise<NextConfig>
  >()
}

it('keeps the type of each client', () => {
  expectTypeOf(types).toBeFunction()
})
