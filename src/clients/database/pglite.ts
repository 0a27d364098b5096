/** PGlite: a span and a comment for each `query`, by one line, because it announces nothing. */
import { tryGetContext } from '../../context/index.js'
import { traceparentOf } from '../../telemetry/sdk-pieces.js'
import { appendSqlComment } from './sql-comment.js'
import { runStatement } from './statement-span.js'

/** The part of a PGlite database that is wrapped; its generic signatures are kept by the caller's type. */
interface PgliteDatabase {
  query(...args: never[]): Promise<unknown>
  transaction(...args: never[]): Promise<unknown>
}

/** The same as it is called here. */
interface Queryable {
  query(text: string, ...rest: unknown[]): Promise<unknown>
}
type TransactionMethod = (body: (tx: Queryable) => Promise<unknown>) => Promise<unknown>

/** The one database of a PGlite instance. */
const NAMESPACE = 'postgres'

/**
 * Returns the same database, its `query` traced, in transactions too.
 *
 * @example export const db = instrumentPglite(new PGlite())
 */
export function instrumentPglite<Database extends PgliteDatabase>(database: Database): Database {
  const wrapped = database as unknown as Queryable & { transaction: TransactionMethod }
  traceQuery(wrapped)
  const transaction = wrapped.transaction.bind(wrapped)
  wrapped.transaction = (body) =>
    transaction((tx) => {
      traceQuery(tx)
      return body(tx)
    })
  return database
}

function traceQuery(queryable: Queryable): void {
  const query = queryable.query.bind(queryable)
  queryable.query = (text, ...rest) =>
    runStatement({ system: 'postgresql', namespace: NAMESPACE, text }, (span) => {
      const fields = { correlation_id: tryGetContext()?.correlationId, traceparent: traceparentOf(span) }
      return query(appendSqlComment(text, fields), ...rest)
    })
}
