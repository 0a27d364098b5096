/**
 * `neon()` of `@neondatabase/serverless`, which sends SQL over HTTP: a span and a comment for each query, one span
 * for a transaction of several. Its `Pool` and `Client` are those of `pg`: `instrumentPg`.
 */
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { commentSql, commentTemplate } from './sql-comment.js'
import { type DatabaseTarget, openStatement } from './statement-span.js'

/** The part of the query function that is wrapped; its own signatures are kept by the caller's type. */
interface NeonSql {
  // biome-ignore lint/suspicious/noExplicitAny: a tagged template of any row type
  (...args: any[]): any
  query(...args: never[]): unknown
  transaction(...args: never[]): unknown
}

/** A query that is sent each time somebody waits for it. */
interface NeonQuery {
  execute(data: QueryData | QueryData[], ...options: unknown[]): Promise<unknown>
  queryData: QueryData
}

/** With placeholders already, or a template that gets them. */
type QueryData =
  | { query: string; params: unknown[] }
  | { strings: readonly string[]; values: readonly unknown[] }

type Method = (...args: unknown[]) => unknown

/** The protocol names neither server nor database to the caller. */
const TARGET: DatabaseTarget = { system: 'postgresql' }

const instrumented = new WeakMap<object, object>()

/**
 * Returns the same query function, its queries traced.
 *
 * @throws {TypeError} for what is not a query function.
 * @example export const sql = instrumentNeon(neon(process.env.DATABASE_URL))
 */
export function instrumentNeon<Sql extends NeonSql>(sql: Sql): Sql {
  if (typeof sql !== 'function' || typeof sql.query !== 'function' || typeof sql.transaction !== 'function')
    throw new TypeError('instrumentNeon: "sql" must be what neon() of @neondatabase/serverless returns.')
  const known = instrumented.get(sql)
  if (known !== undefined) return known as Sql
  const proxy: Sql = new Proxy(sql, {
    apply: (target, thisArgument, args) => traced(Reflect.apply(target, thisArgument, args)),
    get(target, property) {
      const value = Reflect.get(target, property) as Method
      if (property === 'query') return (...args: unknown[]) => traced(value.apply(target, args) as NeonQuery)
      if (property === 'transaction')
        return (queries: unknown, ...options: unknown[]) =>
          transaction(
            typeof queries === 'function' ? queries(proxy) : queries,
            (list) => value.call(target, list, ...options) as Promise<unknown>,
          )
      return value
    },
  })
  instrumented.set(sql, proxy)
  instrumented.set(proxy, proxy)
  return proxy
}

function traced(query: NeonQuery): NeonQuery {
  const { execute } = query
  query.execute = (data, ...options) =>
    Array.isArray(data)
      ? execute(data, ...options)
      : send(openStatement(TARGET, textOf(data)), (call) => execute(commented(data, call), ...options))
  return query
}

function transaction(queries: unknown, run: (queries: unknown) => Promise<unknown>): Promise<unknown> {
  if (!Array.isArray(queries) || !queries.every(isQuery)) return run(queries)
  const text = queries.map(({ queryData }) => textOf(queryData)).join('; ')
  return send(openStatement(TARGET, text, queries.length), (call) => {
    const asWritten = queries.map(({ queryData }) => queryData)
    for (const query of new Set(queries)) query.queryData = commented(query.queryData, call)
    try {
      // Reads what it sends before it returns: a query can be sent again, in another request.
      return run(queries)
    } finally {
      for (const [index, query] of queries.entries()) query.queryData = asWritten[index] ?? query.queryData
    }
  })
}

async function send(
  call: OpenCall | undefined,
  run: (call: OpenCall | undefined) => Promise<unknown>,
): Promise<unknown> {
  if (call === undefined) return run(undefined)
  try {
    return await run(call)
  } catch (error) {
    // What the network said is wrapped: its code is the cause of the cause.
    const { sourceError } = (error ?? {}) as { sourceError?: { cause?: unknown } }
    failCall(call, sourceError?.cause ?? sourceError ?? error)
    throw error
  } finally {
    closeCall(call)
  }
}

function isQuery(query: unknown): query is NeonQuery {
  const { queryData } = (query ?? {}) as { queryData?: unknown }
  return typeof queryData === 'object' && queryData !== null
}

function textOf(data: QueryData): string {
  if ('query' in data) return data.query
  return data.strings.reduce(
    (text, piece, index) => `${text}${pieceOf(data.values[index - 1], index)}${piece}`,
  )
}

/** A fragment is a query, raw SQL says so; the rest are values. */
function pieceOf(value: unknown, position: number): string {
  if (isQuery(value) && typeof value.execute === 'function') return textOf(value.queryData)
  return `$${position}`
}

function commented(data: QueryData, call: OpenCall | undefined): QueryData {
  if ('query' in data) return { ...data, query: commentSql(data.query, call?.span) }
  const strings = commentTemplate(data.strings, call?.span)
  // Its class has a method, so it is copied with it.
  return Object.assign(Object.create(Object.getPrototypeOf(data)), data, { strings })
}
