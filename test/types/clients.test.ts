/** A traced client has the type it had: the line around it changes nothing that an app writes below it. */
import type { DatabaseSync } from 'node:sqlite'
import type { PGlite } from '@electric-sql/pglite'
import type { NeonQueryFunction } from '@neondatabase/serverless'
import type { SqlCommenterPlugin } from '@prisma/sqlcommenter'
import type { Redis as Upstash } from '@upstash/redis'
import type { VercelKV } from '@vercel/kv'
import type { Database } from 'better-sqlite3'
import type { Cluster, Redis } from 'ioredis'
import type mysql from 'mysql2'
import type mysqlPromise from 'mysql2/promise'
import type pg from 'pg'
import type postgres from 'postgres'
import type { RedisClientType } from 'redis'
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

// Next's own type would widen `process.env` in every file that is checked with this one.
interface NextConfig {
  output?: 'standalone' | 'export'
  serverExternalPackages?: string[]
}

/** A client of that type: nothing here is run, the types are the test. */
declare function client<Type>(): Type
declare const config: NextConfig

const same = () => {
  expectTypeOf(instrumentPg(client<pg.Pool>())).toEqualTypeOf<pg.Pool>()
  expectTypeOf(instrumentPg(client<pg.Client>())).toEqualTypeOf<pg.Client>()
  expectTypeOf(instrumentPostgres(client<postgres.Sql>())).toEqualTypeOf<postgres.Sql>()
  expectTypeOf(instrumentNeon(client<NeonQueryFunction<false, true>>())).toEqualTypeOf<
    NeonQueryFunction<false, true>
  >()
  expectTypeOf(instrumentMysql2(client<mysql.Pool>())).toEqualTypeOf<mysql.Pool>()
  expectTypeOf(instrumentMysql2(client<mysql.Connection>())).toEqualTypeOf<mysql.Connection>()
  expectTypeOf(instrumentMysql2(client<mysqlPromise.Pool>())).toEqualTypeOf<mysqlPromise.Pool>()
  expectTypeOf(instrumentPglite(client<PGlite>())).toEqualTypeOf<PGlite>()
  expectTypeOf(instrumentBetterSqlite3(client<Database>())).toEqualTypeOf<Database>()
  expectTypeOf(instrumentBetterSqlite3(client<DatabaseSync>())).toEqualTypeOf<DatabaseSync>()
  expectTypeOf(requestComments()).toExtend<SqlCommenterPlugin>()

  expectTypeOf(instrumentIoredis(client<Redis>())).toEqualTypeOf<Redis>()
  expectTypeOf(instrumentIoredis(client<Cluster>())).toEqualTypeOf<Cluster>()
  expectTypeOf(instrumentRedis(client<RedisClientType>())).toEqualTypeOf<RedisClientType>()
  expectTypeOf(instrumentKv(client<Upstash>())).toEqualTypeOf<Upstash>()
  expectTypeOf(instrumentKv(client<VercelKV>())).toEqualTypeOf<VercelKV>()

  expectTypeOf(withThroughline(config)).toEqualTypeOf<NextConfig>()
  expectTypeOf(withThroughline(async (_phase: string) => config)).toEqualTypeOf<
    (phase: string) => Promise<NextConfig>
  >()
}

it('keeps the type of each client', () => {
  expectTypeOf(same).toBeFunction()
})
