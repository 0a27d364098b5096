/** One statement: its span, named after what it does to which tables. */
import type { Attributes, Span } from '@opentelemetry/api'
import { tryGetContext } from '../../context/index.js'
import { ATTRIBUTE } from '../../telemetry/names.js'
import { isUntraced } from '../../telemetry/untraced.js'
import { type ClientTarget, closeCall, failCall, type OpenCall, openCall } from '../client-span.js'
import { describeSql, type SqlDialect } from './sql-text.js'

/** A database as its client names it. */
export interface DatabaseTarget extends ClientTarget {
  /** `db.system.name`, and how its SQL is read. */
  system: SqlDialect
}

/**
 * Opens the span of a statement, under the active one. Undefined outside a request, and where nothing is recorded:
 * nothing is shown then.
 *
 * @param text the statement as the app wrote it; its literals are left out of the span
 * @param batchSize statements in it, when it is a batch sent as one
 * @param isFilledIn whether the client has written the values into it already
 */
export function openStatement(
  target: DatabaseTarget,
  text: string,
  batchSize?: number,
  isFilledIn?: boolean,
): OpenCall | undefined {
  const requestContext = tryGetContext()
  if (requestContext === undefined || isUntraced()) return undefined
  const { operation, tables, summary, text: queryText } = describeSql(text, target.system, isFilledIn)
  const attributes: Attributes = {
    [ATTRIBUTE.dbQuerySummary]: summary,
    [ATTRIBUTE.dbQueryText]: queryText,
  }
  if (tables.length === 1) attributes[ATTRIBUTE.dbCollection] = tables[0]
  if (batchSize !== undefined) attributes[ATTRIBUTE.dbBatchSize] = batchSize
  const name =
    tables.length > 0 || target.namespace === undefined ? summary : `${operation} ${target.namespace}`
  return openCall(requestContext, { kind: 'database', name, operation, target, attributes })
}

/**
 * Runs a statement in a span of its own. Outside a request it runs without one.
 *
 * @param run gets the span, for the SQL comment
 */
export async function runStatement<T>(
  target: DatabaseTarget,
  text: string,
  run: (span: Span | undefined) => Promise<T>,
): Promise<T> {
  const statement = openStatement(target, text)
  if (statement === undefined) return run(undefined)
  try {
    return await run(statement.span)
  } catch (error) {
    failCall(statement, error)
    throw error
  } finally {
    closeCall(statement)
  }
}

/** The same for a client that answers at once. */
export function runStatementSync<T>(target: DatabaseTarget, text: string, run: () => T): T {
  const statement = openStatement(target, text)
  if (statement === undefined) return run()
  try {
    return run()
  } catch (error) {
    failCall(statement, error)
    throw error
  } finally {
    closeCall(statement)
  }
}
