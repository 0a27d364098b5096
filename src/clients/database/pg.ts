/**
 * `pg`, and what is built on it, as `Pool` and `Client` of `@neondatabase/serverless`: a span and a comment for each
 * statement. Where Next does not bundle the client, `require-hooks.ts` does it without a line in the app.
 *
 * A statement keeps its own request, whoever answers it: a connection calls back in the context of the request that
 * opened it, and a pool in that of the request that gave a connection up.
 */
import { closeCall, type OpenCall, settleCall } from '../client-span.js'
import { showConnectFailure } from '../connect-failure.js'
import { bearingName } from './application-name.js'
import { bindContext } from './bind-context.js'
import { commentSql } from './sql-comment.js'
import { type DatabaseTarget, openStatement } from './statement-span.js'
import { isShownByOthers, ownerOf, type WrappedMethod, wrapOnce } from './wrap-method.js'

/** The part of `pg.Client` that is wrapped or read. */
export interface PgClient {
  query(...args: never[]): unknown
  connect(...args: never[]): unknown
}

/** The part of `pg.Pool` that is wrapped. */
export interface PgPool extends PgClient {
  /** The class of its connections. */
  Client: unknown
}

/** What a client knows of its server. */
interface ConnectedClient {
  database?: string
  host?: string
  port?: number
}

/** A statement of its own class, as a cursor or a stream. */
interface Submittable {
  submit: unknown
  text?: unknown
  /** Of a stream. */
  cursor?: { text?: unknown }
  callback?: unknown
}

type Callback = (this: unknown, error?: unknown, ...results: unknown[]) => unknown

/**
 * Returns the same pool or client, its class traced: all pools and clients of the class are. Needed where the client
 * is bundled; harmless elsewhere.
 *
 * @throws {TypeError} for what has no `query`.
 * @example export const pool = instrumentPg(new Pool({ connectionString }))
 */
export function instrumentPg<Client extends PgClient>(client: Client): Client {
  if (typeof client?.query !== 'function' || typeof client.connect !== 'function')
    throw new TypeError(
      'instrumentPg: "client" must be a Pool or a Client of pg or @neondatabase/serverless.',
    )
  const { Client: ClientClass } = client as { Client?: { prototype: PgClient } }
  if (ClientClass === undefined) {
    wrapPgClient(client)
    return client
  }
  wrapPgPool(client)
  wrapPgClient(ClientClass.prototype)
  return client
}

/** Wraps the class, or base class, that holds `query`. Once. */
export function wrapPgClient(client: PgClient): void {
  wrapOnce(ownerOf(client, 'query'), 'query', traced)
  wrapOnce(ownerOf(client, 'connect'), 'connect', withFailureShown)
}

/** Wraps the class, or base class, that holds `connect`. Once. */
export function wrapPgPool(pool: PgClient): void {
  wrapOnce(ownerOf(pool, 'connect'), 'connect', (connect) => withFailureShown(bearingName(connect)))
}

/** A subclass may have a `query` of its own, which calls this one: it is one statement. */
let isUnderWay = false

function traced(query: WrappedMethod): WrappedMethod {
  return function (this: ConnectedClient, ...args) {
    if (isUnderWay) return query.apply(this, args)
    const statement = isShownByOthers(this, 'query')
      ? undefined
      : openStatement(targetOf(this), textOf(args[0]))
    args[0] = commented(args[0], statement)
    const isCalledBack = bindCallback(args, statement)
    if (isSubmittable(args[0])) bindHandlers(args[0], statement)
    isUnderWay = true
    try {
      const result = query.apply(this, args)
      if (statement === undefined || isCalledBack || isSubmittable(args[0])) return result
      return closedWhenSettled(result, statement)
    } catch (error) {
      if (statement !== undefined) settleCall(statement, error)
      throw error
    } finally {
      isUnderWay = false
    }
  }
}

/** Keeps the caller's context for its callback, wherever it was given. True when there is one. */
function bindCallback(args: unknown[], statement: OpenCall | undefined): boolean {
  const holder = args.findIndex((argument) => typeof argument === 'function')
  const inConfig = holder < 0 ? (args[0] as { callback?: unknown } | undefined)?.callback : undefined
  const callback = (holder < 0 ? inConfig : args[holder]) as Callback | undefined
  if (typeof callback !== 'function') return false
  const bound = bindContext(function (this: unknown, error?: unknown, ...results: unknown[]) {
    if (statement !== undefined) settleCall(statement, error)
    return callback.call(this, error, ...results)
  })
  if (holder >= 0) args[holder] = bound
  else if (isSubmittable(args[0])) args[0].callback = bound
  else args[0] = { ...(args[0] as object), callback: bound }
  return true
}

/**
 * Keeps the caller's context for what a cursor, a stream or a query with listeners does with the server's answers,
 * which the client hands to its `handle…` methods. The last is one of two: that it failed, or that the client is ready.
 */
function bindHandlers(submitted: Submittable, statement: OpenCall | undefined): void {
  const handlers = submitted as unknown as Record<string, (...args: unknown[]) => unknown>
  const ends: Record<string, (error: unknown) => void> = {
    handleError: (error) => statement && settleCall(statement, error),
    handleReadyForQuery: () => statement && closeCall(statement),
  }
  for (const name of handlerNamesOf(submitted)) {
    const handle = handlers[name]
    handlers[name] = bindContext(function (this: unknown, ...args: unknown[]) {
      ends[name]?.(args[0])
      return handle?.apply(submitted, args)
    })
  }
}

function handlerNamesOf(submitted: object): Set<string> {
  const names = new Set<string>()
  for (let owner = submitted; owner !== null; owner = Object.getPrototypeOf(owner)) {
    for (const name of Object.getOwnPropertyNames(owner)) if (/^handle[A-Z]/.test(name)) names.add(name)
  }
  return names
}

/** The promise that the caller gets, so that a failure that nobody handles stays one. */
function closedWhenSettled(result: unknown, statement: OpenCall): unknown {
  if (typeof (result as PromiseLike<unknown> | undefined)?.then !== 'function') {
    closeCall(statement)
    return result
  }
  return (result as PromiseLike<unknown>).then(
    (value) => {
      closeCall(statement)
      return value
    },
    (error) => {
      settleCall(statement, error)
      throw error
    },
  )
}

// A named statement is prepared once per connection under its text: a comment that changes would be refused by pg,
// so named ones are left as they are.
function commented(statement: unknown, call: OpenCall | undefined): unknown {
  if (typeof statement === 'string') return commentSql(statement, call?.span)
  if (typeof statement !== 'object' || statement === null) return statement
  const { text, name, cursor } = statement as Submittable & { name?: unknown }
  if (name !== undefined && name !== null) return statement
  // What has a class of its own is sent as it is, once: a cursor, and the one within a stream.
  if (isSubmittable(statement)) {
    const holder = typeof text === 'string' ? statement : cursor
    if (holder !== undefined && Object.getOwnPropertyDescriptor(holder, 'text')?.writable)
      holder.text = commentSql(String(holder.text), call?.span)
    return statement
  }
  return typeof text === 'string' ? withText(statement, text, commentSql(text, call?.span)) : statement
}

// What a template tag makes has its values on its class: copied as pg copies it.
function withText(statement: object, text: string, commentedText: string): object {
  if (commentedText === text) return statement
  const prototype = Object.getPrototypeOf(statement)
  if (prototype === Object.prototype) return { ...statement, text: commentedText }
  const copy = Object.create(prototype, Object.getOwnPropertyDescriptors(statement))
  return Object.defineProperty(copy, 'text', { value: commentedText })
}

function isSubmittable(statement: unknown): statement is Submittable {
  return typeof (statement as Submittable | undefined)?.submit === 'function'
}

function textOf(statement: unknown): string {
  if (typeof statement === 'string') return statement
  const { text, cursor } = (statement ?? {}) as Pick<Submittable, 'text' | 'cursor'>
  if (typeof text === 'string') return text
  return typeof cursor?.text === 'string' ? cursor.text : ''
}

const targets = new WeakMap<object, DatabaseTarget>()

function targetOf(client: ConnectedClient): DatabaseTarget {
  let target = targets.get(client)
  if (target === undefined) {
    target = {
      system: 'postgresql',
      namespace: client.database,
      serverAddress: client.host,
      serverPort: client.port,
    }
    targets.set(client, target)
  }
  return target
}

/** Keeps the caller's context for its callback, and shows a connection that cannot be had. */
function withFailureShown(connect: WrappedMethod): WrappedMethod {
  return function (this: ConnectedClient & { options?: ConnectedClient }, ...args) {
    const startedAt = performance.now()
    const target = this.options === undefined ? targetOf(this) : targetOf(this.options)
    const onFailure = (error: unknown) => showConnectFailure({ kind: 'database', target, startedAt }, error)
    const [callback] = args
    if (typeof callback === 'function') {
      args[0] = bindContext(function (this: unknown, error?: unknown, ...results: unknown[]) {
        if (error !== undefined && error !== null) onFailure(error)
        return callback.call(this, error, ...results)
      })
      return connect.apply(this, args)
    }
    const result = connect.apply(this, args)
    if (typeof result?.then !== 'function') return result
    return (result as Promise<unknown>).then(undefined, (error) => {
      onFailure(error)
      throw error
    })
  }
}
