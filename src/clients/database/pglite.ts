/** PGlite: a span and a comment for each `query` and `exec`, by one line, because it announces nothing. */
import { commentSql } from './sql-comment.js'
import { type DatabaseTarget, runStatement } from './statement-span.js'

/** The part of a PGlite database that is wrapped; its generic signatures are kept by the caller's type. */
interface PgliteDatabase {
  query(...args: never[]): Promise<unknown>
  exec(...args: never[]): Promise<unknown>
  transaction(...args: never[]): Promise<unknown>
}

/** The same as it is called here. */
type Method = (text: string, ...rest: unknown[]) => Promise<unknown>
type Queryable = Record<'query' | 'exec', Method> & { sql?: SqlTemplate }
type SqlTemplate = (strings: TemplateStringsArray, ...values: unknown[]) => Promise<unknown>
type TransactionMethod = (body: (tx: Queryable) => Promise<unknown>) => Promise<unknown>

/** The one database of a PGlite instance. */
const TARGET: DatabaseTarget = { system: 'postgresql', namespace: 'postgres' }

const instrumented = new WeakSet<object>()

/**
 * Returns the same database, its statements traced, in transactions too.
 *
 * @throws {TypeError} for what is not a PGlite database.
 * @example export const db = instrumentPglite(new PGlite())
 */
export function instrumentPglite<Database extends PgliteDatabase>(database: Database): Database {
  if (typeof database?.query !== 'function' || typeof database.transaction !== 'function')
    throw new TypeError('instrumentPglite: "database" must be a PGlite database.')
  if (instrumented.has(database)) return database
  instrumented.add(database)
  const wrapped = database as unknown as Queryable & { transaction: TransactionMethod }
  traceStatements(wrapped)
  const transaction = wrapped.transaction.bind(wrapped)
  wrapped.transaction = (body) =>
    transaction((tx) => {
      traceStatements(tx)
      if (wrapped.sql !== undefined) tx.sql = throughQuery(wrapped.sql, tx)
      return body(tx)
    })
  return database
}

function traceStatements(queryable: Queryable): void {
  for (const name of ['query', 'exec'] as const) {
    const method = queryable[name].bind(queryable)
    queryable[name] = (text, ...rest) =>
      typeof text === 'string'
        ? runStatement(TARGET, text, (span) => method(commentSql(text, span), ...rest))
        : method(text, ...rest)
  }
}

/** The template of a database goes through its `query`, that of a transaction does not: this one does. */
function throughQuery(template: SqlTemplate, tx: Queryable): SqlTemplate {
  return template.bind({ query: (...args: Parameters<Method>) => tx.query(...args) })
}
