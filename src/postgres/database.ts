/**
 * What is asked of the app's Postgres client: one statement on its own, and several in one transaction. Each
 * client is known by the few methods that are called, so none is a dependency.
 */

import type { EventEmitter } from 'node:events'

/** Runs one statement with texts for its parameters, and answers the first row's column `answer`. */
export type RunStatement = (text: string, parameters: (string | null)[]) => Promise<string | undefined>

/** A row as the driver gives it. */
export type Row = Record<string, unknown>

/** Any client, as this package uses it. */
export interface Database<Tx> {
  run: RunStatement
  /** Runs statements on a transaction, or on the client itself: the rows of the last one that has any. */
  rows(on: Tx | 'client', text: string, values?: readonly unknown[]): Promise<Row[]>
  /** Commits when `body` resolves, rolls back when it rejects. @param timeoutMs for clients that bound one */
  transaction<T>(body: (tx: Tx, run: RunStatement) => Promise<T>, timeoutMs?: number): Promise<T>
}

// Methods with overloads, and callbacks that get a transaction, are told apart by name alone: `TransactionOf`
// reads what they hand out.
// biome-ignore lint/suspicious/noExplicitAny: see above.
type Method = (...args: any[]) => any

/** `Pool` of `pg` ≥8 or of `@neondatabase/serverless`. */
export interface PgPool {
  totalCount: number
  query: Method
  connect: Method
}

/** `postgres` ≥3 (postgres.js). */
export interface PostgresJs {
  unsafe: Method
  begin: Method
}

/** A Drizzle database of Postgres, whichever driver is under it. */
export interface DrizzlePg {
  execute: Method
  transaction: Method
}

/** A Prisma client of Postgres. */
export interface PrismaPg {
  $queryRawUnsafe: Method
  $transaction: Method
}

/** A Kysely database of Postgres. */
export interface KyselyPg {
  executeQuery: Method
  transaction: Method
}

/** PGlite, the embedded Postgres. */
export interface PgliteLike {
  exec: Method
  query: Method
  transaction: Method
}

/** A client that this package can be built on. */
export type PostgresDatabase = PgPool | PostgresJs | DrizzlePg | PrismaPg | KyselyPg | PgliteLike

/** What a client hands to the body of its transaction. */
export type TransactionOf<Db> = Db extends { $transaction: infer Transaction }
  ? ParameterOf<BodyOf<Transaction>>
  : Db extends { begin: infer Begin }
    ? ParameterOf<LastParameterOf<Begin>>
    : Db extends { transaction(): { execute: infer Execute } }
      ? ParameterOf<BodyOf<Execute>>
      : Db extends { transaction: infer Transaction }
        ? ParameterOf<BodyOf<Transaction>>
        : // The first overload gives a promise, the last takes a callback.
          Db extends { connect: { (): Promise<infer Client>; (...args: infer _Rest): unknown } }
          ? Client
          : never

// Of overloads, the last is read: Prisma's takes a body, postgres.js's takes options and a body.
// biome-ignore lint/suspicious/noExplicitAny: whatever follows the body.
type BodyOf<Transaction> = Transaction extends (body: infer Body, ...rest: any) => unknown ? Body : never
// biome-ignore lint/suspicious/noExplicitAny: whatever the options are.
type LastParameterOf<Begin> = Begin extends (options: any, body: infer Body) => unknown ? Body : never
// biome-ignore lint/suspicious/noExplicitAny: whatever else the body gets.
type ParameterOf<Body> = Body extends (tx: infer Tx, ...rest: any) => unknown ? Tx : never

/**
 * The client, as this package uses it.
 *
 * @param caller for messages: `postgresStore`, `transaction`
 * @throws {TypeError} for a client that is none of these.
 */
export function databaseOf(caller: string, client: PostgresDatabase): Database<unknown> {
  // biome-ignore lint/suspicious/noExplicitAny: told apart by what is there.
  const db: any = client
  if (typeof db?.begin === 'function' && typeof db.unsafe === 'function') return ofPostgresJs(db)
  if (typeof db?.$transaction === 'function') return ofPrisma(db)
  if (typeof db?.executeQuery === 'function') return ofKysely(db)
  if (typeof db?.transaction === 'function' && typeof db.execute === 'function') return ofDrizzle(db)
  if (typeof db?.transaction === 'function' && typeof db.exec === 'function') return ofPglite(db)
  if (typeof db?.connect === 'function' && typeof db.totalCount === 'number') return ofPgPool(db)
  if (typeof db?.connect === 'function' && typeof db.query === 'function') {
    throw new TypeError(
      `${caller}: "db" is a single connection, which requests running at once cannot share. Pass a Pool of pg.`,
    )
  }
  throw new TypeError(
    `${caller}: "db" must be a Pool of pg, a postgres.js client, a Drizzle, Kysely or Prisma database, or a PGlite.`,
  )
}

/** True when the database, or the driver that wraps its error, says this SQLSTATE. */
export function hasSqlState(error: unknown, state: string, depth = 0): boolean {
  if (typeof error !== 'object' || error === null || depth > 6) return false
  const { code, originalCode, cause, meta, driverAdapterError } = error as Record<string, unknown>
  if (code === state || originalCode === state) return true
  // Drizzle has it in `cause`, Prisma in `meta.driverAdapterError.cause`.
  return [cause, meta, driverAdapterError].some((inner) => hasSqlState(inner, state, depth + 1))
}

interface PgClient {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; command?: string }>
  release(error?: unknown): void
  on(event: 'error', listener: () => void): void
  off(event: 'error', listener: () => void): void
}

function ofPgPool(pool: { connect(): Promise<PgClient>; query: PgClient['query'] }): Database<PgClient> {
  return databaseFrom<PgClient>(
    pool as unknown as PgClient,
    (queryable, text, values) => queryable.query(text, values),
    async (body) => {
      const client = await pool.connect()
      // A connection that is cut between two statements says so by an event, which would end the process.
      const ignore = () => {}
      client.on('error', ignore)
      let broken: unknown
      try {
        await client.query('BEGIN')
        const value = await body(client)
        // A statement that failed behind the body's back makes the server roll back, and say so by the tag alone.
        const { command } = await client.query('COMMIT')
        if (command !== 'COMMIT')
          throw new Error('The transaction was rolled back: a statement in it failed and was not awaited.')
        return value
      } catch (error) {
        await client.query('ROLLBACK').catch((cause: unknown) => {
          broken = cause
        })
        throw error
      } finally {
        client.off('error', ignore)
        client.release(broken)
      }
    },
  )
}

interface PostgresJsClient {
  unsafe(text: string, parameters: unknown[]): PromiseLike<unknown>
  begin<T>(body: (tx: PostgresJsClient) => Promise<T>): Promise<T>
}

function ofPostgresJs(sql: PostgresJsClient): Database<PostgresJsClient> {
  return databaseFrom(
    sql,
    (queryable, text, values) => queryable.unsafe(text, values),
    (body) => sql.begin(body),
  )
}

interface DrizzleClient {
  /** The driver, which may be a Pool of pg. */
  $client?: { on?: (event: 'acquire', listener: (client: EventEmitter) => void) => void; totalCount?: number }
  execute(query: unknown): PromiseLike<unknown>
  transaction<T>(body: (tx: DrizzleClient) => Promise<T>): Promise<T>
}

function ofDrizzle(db: DrizzleClient): Database<DrizzleClient> {
  keepAliveOnCut(db.$client)
  return databaseFrom<DrizzleClient>(
    db,
    (queryable, text, values) => {
      // On postgres.js it switches off what makes JSON of objects.
      const params = values.map((value) => (isPlainObject(value) ? JSON.stringify(value) : value))
      // Drizzle asks its `sql` for SQL, and that for a text with parameters: this is both.
      const query = {
        getSQL: () => query,
        toQuery: () => ({ sql: text, params, typings: params.map(() => 'none') }),
      }
      // Its own error quotes the parameters, and with them the result that was to be stored.
      return Promise.resolve(queryable.execute(query)).catch((error: unknown) => {
        throw error instanceof Error && error.cause !== undefined ? error.cause : error
      })
    },
    (body) => db.transaction(body),
  )
}

function isPlainObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
}

/** Pools and connections that are listened to. */
const heard = new WeakSet<object>()

// A connection that is cut while a transaction has it says so by an event, which would end the process.
function keepAliveOnCut(pool: DrizzleClient['$client']): void {
  if (typeof pool?.totalCount !== 'number' || heard.has(pool)) return
  heard.add(pool)
  pool.on?.('acquire', (client) => {
    if (heard.has(client)) return
    heard.add(client)
    client.on('error', () => {})
  })
}

interface PrismaClient {
  $queryRawUnsafe(text: string, ...parameters: unknown[]): PromiseLike<unknown>
  $transaction<T>(body: (tx: PrismaClient) => Promise<T>, options: object): Promise<T>
}

function ofPrisma(db: PrismaClient): Database<PrismaClient> {
  return databaseFrom(
    db,
    (queryable, text, values) => queryable.$queryRawUnsafe(text, ...values),
    // Prisma ends a transaction after 5 s unless told otherwise.
    (body, timeoutMs) => db.$transaction(body, timeoutMs === undefined ? {} : { timeout: timeoutMs }),
  )
}

interface KyselyClient {
  executeQuery(query: object): Promise<{ rows: unknown[] }>
  transaction(): { execute<T>(body: (tx: KyselyClient) => Promise<T>): Promise<T> }
}

function ofKysely(db: KyselyClient): Database<KyselyClient> {
  return databaseFrom(
    db,
    (queryable, sql, parameters) =>
      queryable.executeQuery({
        sql,
        parameters,
        query: { kind: 'RawNode', sqlFragments: [sql], parameters: [] },
        queryId: { queryId: 'throughline' },
      }),
    (body) => db.transaction().execute(body),
  )
}

interface PgliteClient {
  exec(text: string): Promise<unknown>
  query(text: string, parameters: unknown[]): Promise<{ rows: unknown[] }>
  transaction<T>(body: (tx: PgliteClient) => Promise<T>): Promise<T>
}

function ofPglite(db: PgliteClient): Database<PgliteClient> {
  return databaseFrom(
    db,
    // Only `exec` takes several statements, and only `query` takes values.
    (queryable, text, values) => (values.length > 0 ? queryable.query(text, values) : queryable.exec(text)),
    (body) => db.transaction(body),
  )
}

/** The few functions of a client, as a database. */
function databaseFrom<Queryable>(
  client: Queryable,
  send: (queryable: Queryable, text: string, values: unknown[]) => PromiseLike<unknown>,
  begin: <T>(body: (tx: Queryable) => Promise<T>, timeoutMs?: number) => Promise<T>,
): Database<Queryable> {
  const rows = async (queryable: Queryable, text: string, values: readonly unknown[]) =>
    rowsOf(await send(queryable, text, [...values]))
  const runOn =
    (queryable: Queryable): RunStatement =>
    async (text, parameters) => {
      const [first] = await rows(queryable, text, parameters)
      return first?.answer === undefined || first.answer === null ? undefined : String(first.answer)
    }
  return {
    run: runOn(client),
    rows: (on, text, values = []) => rows(on === 'client' ? client : (on as Queryable), text, values),
    transaction: (body, timeoutMs) => begin((tx) => body(tx, runOn(tx)), timeoutMs),
  }
}

/** Drivers answer with a list of rows, or with an object that has one; for several statements, with a list of those. */
function rowsOf(reply: unknown): Row[] {
  if (!Array.isArray(reply)) return ((reply as { rows?: Row[] } | undefined)?.rows ?? []) as Row[]
  const isOfResults = reply.length > 0 && reply.every((entry) => Array.isArray(entry?.rows))
  return isOfResults ? reply.flatMap(({ rows }) => rows) : reply
}
