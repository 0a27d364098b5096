/**
 * `postgres` (postgres.js): a span for each query, by one line, because it announces nothing.
 *
 * It prepares a query under its text, once per connection and for as long as that lives: a comment that changes
 * with each request would leave a prepared statement behind each time. So only what is not prepared bears one:
 * `sql.unsafe(…)` (which is what Drizzle sends), `.simple()`, and everything with `prepare: false`. With
 * `sqlApplicationName`, a transaction bears the ID instead, and plans stay.
 */
import { tryGetContext } from '../../context/index.js'
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { clientSettings } from '../settings.js'
import { bindContext } from './bind-context.js'
import { commentTemplate } from './sql-comment.js'
import { type DatabaseTarget, openStatement } from './statement-span.js'

/** The part of a postgres.js client that is read; its own signatures are kept by the caller's type. */
interface PostgresSql {
  // biome-ignore lint/suspicious/noExplicitAny: a tagged template of any row type
  (...args: any[]): any
  unsafe(...args: never[]): unknown
  options: object
}

interface PostgresOptions {
  host?: readonly string[]
  port?: readonly number[]
  database?: string
  prepare?: boolean
}

/** A query that has not been sent: it is when somebody waits for it. */
interface PendingQuery {
  strings: readonly string[]
  args: readonly unknown[]
  options: { prepare?: boolean; simple?: boolean }
  /** What the app does with each row, or with some at a time. */
  forEachFn?: (...rows: unknown[]) => unknown
  cursorFn?: (...rows: unknown[]) => unknown
  resolve(result: unknown): void
  reject(error: unknown): void
  handler(query: PendingQuery): void
}

const instrumented = new WeakMap<object, object>()

/**
 * Returns the same client, its queries traced, in transactions, savepoints and reserved connections too.
 *
 * @throws {TypeError} for what is not a client.
 * @example export const sql = instrumentPostgres(postgres(process.env.DATABASE_URL))
 */
export function instrumentPostgres<Sql extends PostgresSql>(sql: Sql): Sql {
  if (typeof sql !== 'function' || typeof sql.unsafe !== 'function' || typeof sql.options !== 'object')
    throw new TypeError('instrumentPostgres: "sql" must be a client of postgres (postgres.js).')
  const { host, port, database, prepare } = sql.options as PostgresOptions
  return traced(sql, {
    isPrepared: prepare !== false,
    target: {
      system: 'postgresql',
      namespace: database,
      serverAddress: host?.[0],
      serverPort: port?.[0] === undefined ? undefined : Number(port[0]),
    },
  })
}

interface Connection {
  target: DatabaseTarget
  /** Whether queries are prepared unless they say otherwise. */
  isPrepared: boolean
}

/** Methods that give another client to a callback: a transaction, a savepoint. */
const SCOPES = new Set<PropertyKey>(['begin', 'savepoint'])

function traced<Sql extends object>(sql: Sql, connection: Connection): Sql {
  const known = instrumented.get(sql)
  if (known !== undefined) return known as Sql
  const proxy = new Proxy(sql as Sql & ((...args: unknown[]) => unknown), {
    apply: (target, thisArgument, args) =>
      tracedQuery(Reflect.apply(target, thisArgument, args) as object, connection),
    get(target, property) {
      const value = Reflect.get(target, property)
      if (typeof value !== 'function') return value
      if (SCOPES.has(property)) return scope(value.bind(target), property, connection)
      if (property === 'reserve')
        return async (...args: unknown[]) => traced(await value.apply(target, args), connection)
      if (property === 'unsafe' || property === 'file')
        return (...args: unknown[]) => tracedQuery(value.apply(target, args), connection)
      return value
    },
  })
  instrumented.set(sql, proxy)
  instrumented.set(proxy, proxy)
  return proxy
}

/** `begin(options?, body)` and `savepoint(name?, body)`: the body gets a traced client. */
function scope(method: (...args: unknown[]) => unknown, property: PropertyKey, connection: Connection) {
  return (...args: unknown[]) => {
    const body = args.at(-1)
    if (typeof body !== 'function') return method(...args)
    return method(...args.slice(0, -1), (tx: PostgresSql) => {
      if (property === 'begin') bearName(tx)
      return body(traced(tx, connection))
    })
  }
}

/** Sent ahead of the body's first query, which does not wait for it. */
function bearName(tx: PostgresSql): void {
  const requestContext = tryGetContext()
  if (requestContext === undefined || !clientSettings().sqlApplicationName) return
  const statement = "SELECT set_config('application_name', $1, true)"
  const query = (tx.unsafe as (...args: unknown[]) => Promise<unknown>)(statement, [
    requestContext.correlationId,
  ])
  query.then(undefined, () => {})
}

/** A call of the client makes a query, or a piece of one (an identifier, a value, a fragment). */
function tracedQuery<Query extends object>(made: Query, connection: Connection): Query {
  const query = made as unknown as PendingQuery
  if (typeof query.handler !== 'function' || !Array.isArray(query.strings)) return made
  const { handler } = query
  // Called once, when the query is sent: in the context of whoever waits for it.
  query.handler = (sent) => {
    const call = openStatement(connection.target, textOf(sent))
    if (sent.forEachFn !== undefined) sent.forEachFn = bindContext(sent.forEachFn)
    if (sent.cursorFn !== undefined) sent.cursorFn = bindContext(sent.cursorFn)
    if (call !== undefined) closeWhenSettled(sent, call)
    const { prepare = connection.isPrepared } = sent.options
    if (!prepare || sent.options.simple) sent.strings = commentTemplate(sent.strings, call?.span)
    return handler(sent)
  }
  return made
}

/** The text with `$1` where a value stands; a fragment within it is told by its own text. */
function textOf({ strings, args }: Pick<PendingQuery, 'strings' | 'args'>): string {
  let text = strings[0] ?? ''
  for (let index = 1; index < strings.length; index += 1)
    text += `${pieceOf(args[index - 1], index)}${strings[index]}`
  return text
}

/** A fragment is a query of its own, an identifier its quoted name; the rest are values, plain data above all. */
function pieceOf(argument: unknown, position: number): string {
  const { strings, args, handler, then, value } = (argument ?? {}) as Partial<PendingQuery> & {
    then?: unknown
    value?: unknown
  }
  if (Array.isArray(strings) && Array.isArray(args) && typeof handler === 'function')
    return textOf({ strings, args })
  const isIdentifier = typeof then === 'function' && typeof value === 'string' && value.startsWith('"')
  return isIdentifier ? value : `$${position}`
}

// A cursor puts other functions in their place for each of its rows, so the place itself is watched.
function closeWhenSettled(query: PendingQuery, call: OpenCall): void {
  watch(query, 'resolve', () => closeCall(call))
  watch(query, 'reject', (error) => {
    if (!call.isClosed) failCall(call, error)
    closeCall(call)
  })
}

function watch(query: PendingQuery, name: 'resolve' | 'reject', onCall: (value: unknown) => void): void {
  let inner = query[name]
  Object.defineProperty(query, name, {
    configurable: true,
    get: () => (value: unknown) => {
      onCall(value)
      return inner.call(query, value)
    },
    set: (given: typeof inner) => {
      inner = given
    },
  })
}
