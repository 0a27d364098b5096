/**
 * `pg`, and what is built on it, as `Pool` and `Client` of `@neondatabase/serverless`: a span and a comment for each
 * statement. Where Next does not bundle the client, `require-hooks.ts` does it without a line in the app.
 *
 * A statement keeps its own request, whoever answers it: a connection calls back in the context of the request that
 * opened it, and a pool in that of the request that gave a connection up.
 */
import { errorMonitor } from 'node:events'
import { tryGetContext } from '../../context/index.js'
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { showConnectFailure } from '../connect-failure.js'
import { clientSettings } from '../settings.js'
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
  query(statement: string, values: unknown[], callback: () => void): unknown
}

/** A statement of its own class, as a cursor or a stream: it tells its end by events. */
interface Submittable {
  submit: unknown
  text?: unknown
  /** Of a stream. */
  cursor?: { text?: unknown }
  callback?: unknown
  once?(event: string | symbol, listener: (error?: unknown) => void): unknown
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
  wrapOnce(ownerOf(pool, 'connect'), 'connect', (connect) => withFailureShown(named(connect)))
}

function traced(query: WrappedMethod): WrappedMethod {
  return function (this: ConnectedClient, ...args) {
    const statement = isShownByOthers(this, 'query')
      ? undefined
      : openStatement(targetOf(this), textOf(args[0]))
    args[0] = commented(args[0], statement)
    const isSubmitted = isSubmittable(args[0])
    const isCalledBack = bindCallback(args, statement)
    try {
      const result = query.apply(this, args)
      if (statement === undefined || isCalledBack) return result
      if (isSubmitted) closeAtEnd(args[0] as Submittable, statement)
      else closeWhenSettled(result, statement)
      return result
    } catch (error) {
      if (statement !== undefined) settle(statement, error)
      throw error
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
    if (statement !== undefined) settle(statement, error)
    return callback.call(this, error, ...results)
  })
  if (holder >= 0) args[holder] = bound
  else if (isSubmittable(args[0])) args[0].callback = bound
  else args[0] = { ...(args[0] as object), callback: bound }
  return true
}

function closeWhenSettled(result: unknown, statement: OpenCall): void {
  if (typeof (result as PromiseLike<unknown> | undefined)?.then !== 'function') {
    closeCall(statement)
    return
  }
  ;(result as PromiseLike<unknown>).then(
    () => closeCall(statement),
    (error) => settle(statement, error),
  )
}

function closeAtEnd(submitted: Submittable, statement: OpenCall): void {
  if (submitted.once === undefined) {
    closeCall(statement)
    return
  }
  submitted.once(errorMonitor, (error) => settle(statement, error))
  submitted.once('end', () => closeCall(statement))
  submitted.once('close', () => closeCall(statement))
}

function settle(statement: OpenCall, error: unknown): void {
  if (error !== undefined && error !== null && !statement.isClosed) failCall(statement, error)
  closeCall(statement)
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
    if (typeof text === 'string') statement.text = commentSql(text, call?.span)
    else if (typeof cursor?.text === 'string') cursor.text = commentSql(cursor.text, call?.span)
    return statement
  }
  return typeof text === 'string' ? withText(statement, commentSql(text, call?.span)) : statement
}

// What a template tag makes may have its values on its class, where a copy does not reach.
function withText(statement: object, text: string): object {
  const { values } = statement as { values?: unknown }
  return values === undefined ? { ...statement, text } : { ...statement, text, values }
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
    ;(result as PromiseLike<unknown> | undefined)?.then?.(undefined, onFailure)
    return result
  }
}

/** The request whose ID a connection bears as its `application_name`. */
const nameOf = new WeakMap<object, string>()

/**
 * With `sqlApplicationName`, a pool gives out a connection only when it bears the request's ID: one round trip where
 * the request before was another. Statements stay as they are, and so do their plans.
 */
function named(connect: WrappedMethod): WrappedMethod {
  return function (this: unknown, ...args) {
    if (!clientSettings().sqlApplicationName) return connect.apply(this, args)
    const name = tryGetContext()?.correlationId ?? ''
    const [callback] = args
    if (typeof callback !== 'function') {
      const connected = connect.apply(this, args) as Promise<ConnectedClient>
      return connected.then(
        (client) => new Promise((resolve) => bearName(client, name, () => resolve(client))),
      )
    }
    args[0] = (error: unknown, client: ConnectedClient | undefined, ...rest: unknown[]) => {
      if (client === undefined) return callback(error, client, ...rest)
      return bearName(client, name, () => callback(error, client, ...rest))
    }
    return connect.apply(this, args)
  }
}

function bearName(client: ConnectedClient, name: string, next: () => unknown): void {
  if ((nameOf.get(client) ?? '') === name) {
    next()
    return
  }
  nameOf.set(client, name)
  // On the base method, so that it is no statement of the request's own.
  unwrappedQuery(client).call(client, "SELECT set_config('application_name', $1, false)", [name], () => {
    next()
  })
}

function unwrappedQuery(client: ConnectedClient): ConnectedClient['query'] {
  const { query } = client as unknown as { query: WrappedMethod }
  return (query.original ?? query) as unknown as ConnectedClient['query']
}
