/**
 * `better-sqlite3`, and `node:sqlite`, which has the same methods: a span for each statement, by one line. There is
 * no comment, since SQLite has no server and no log of its own.
 */
import { basename } from 'node:path'
import { closeCall, failCall } from '../client-span.js'
import { type DatabaseTarget, openStatement, runStatementSync } from './statement-span.js'
import { ownerOf, type WrappedMethod, wrapOnce } from './wrap-method.js'

/** The part of a database that is wrapped; its own signatures are kept by the caller's type. */
interface SqliteDatabase {
  // biome-ignore lint/suspicious/noExplicitAny: a statement of any parameters
  prepare(sql: string): any
  exec(sql: string): unknown
}

/** A prepared statement: `source` in better-sqlite3, `sourceSQL` in `node:sqlite`. */
interface SqliteStatement {
  source?: string
  sourceSQL?: string
  database?: { name?: string }
}

/**
 * Returns the same database, its statements traced: all databases of its class are.
 *
 * @throws {TypeError} for what is not a database.
 * @example export const db = instrumentBetterSqlite3(new Database('shop.db'))
 */
export function instrumentBetterSqlite3<Database extends SqliteDatabase>(database: Database): Database {
  if (typeof database?.prepare !== 'function' || typeof database.exec !== 'function')
    throw new TypeError('instrumentBetterSqlite3: "database" must be one of better-sqlite3 or node:sqlite.')
  wrapOnce(ownerOf(database, 'exec'), 'exec', (exec) => {
    return function (this: { name?: string }, sql: string) {
      return runStatementSync(targetOf(this.name), sql, () => exec.call(this, sql))
    }
  })
  // The class of statements is known by the first of them.
  wrapOnce(ownerOf(database, 'prepare'), 'prepare', (prepare) => {
    return function (this: object, ...args) {
      const statement: object = prepare.apply(this, args)
      wrapStatements(Object.getPrototypeOf(statement))
      return statement
    }
  })
  return database
}

function wrapStatements(statement: object): void {
  for (const name of ['run', 'get', 'all']) wrapOnce(statement, name, traced)
  wrapOnce(statement, 'iterate', tracedIterate)
}

function traced(method: WrappedMethod): WrappedMethod {
  return function (this: SqliteStatement, ...args) {
    return runStatementSync(targetOf(this.database?.name), textOf(this), () => method.apply(this, args))
  }
}

/** Rows are read one by one: the statement is over with the last, or when the reader has enough. */
function tracedIterate(iterate: WrappedMethod): WrappedMethod {
  return function (this: SqliteStatement, ...args) {
    const call = openStatement(targetOf(this.database?.name), textOf(this))
    if (call === undefined) return iterate.apply(this, args)
    /** Runs a step of the iteration; one that fails, or that is the last, ends the statement. */
    const step = <T>(run: () => T, isLast: (result: T) => boolean): T => {
      try {
        const result = run()
        if (isLast(result)) closeCall(call)
        return result
      } catch (error) {
        failCall(call, error)
        closeCall(call)
        throw error
      }
    }
    const rows: Iterator<unknown> = step(
      () => iterate.apply(this, args),
      () => false,
    )
    return {
      next: () =>
        step(
          () => rows.next(),
          ({ done }) => done === true,
        ),
      return: (value?: unknown) =>
        step(
          () => rows.return?.(value) ?? { done: true, value },
          () => true,
        ),
      [Symbol.iterator]() {
        return this
      },
    }
  }
}

function textOf({ source, sourceSQL }: SqliteStatement): string {
  return source ?? sourceSQL ?? ''
}

/** The file's name without its folders, which are the machine's business. */
function targetOf(name: string | undefined): DatabaseTarget {
  return { system: 'sqlite', namespace: name === undefined || name === '' ? undefined : basename(name) }
}
