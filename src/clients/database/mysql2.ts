/**
 * `mysql2`, its callbacks and its promises: a span for each statement, and a comment on each `query`. Where Next does
 * not bundle the client (`withThroughline`), `require-hooks.ts` does it without a line in the app; where it does,
 * `mysql2-channels.ts` still makes the spans.
 */
import { type EventEmitter, errorMonitor } from 'node:events'
import { closeCall, type OpenCall, settleCall } from '../client-span.js'
import { showConnectFailure } from '../connect-failure.js'
import { bindContext } from './bind-context.js'
import { unannounced } from './mysql2-channels.js'
import { commentSql } from './sql-comment.js'
import { type DatabaseTarget, openStatement } from './statement-span.js'
import { isShownByOthers, ownerOf, type WrappedMethod, wrapOnce } from './wrap-method.js'

/** The part of a connection that is wrapped. */
export interface MysqlConnection {
  query(...args: never[]): unknown
  execute(...args: never[]): unknown
}

/** A pool or connection, or the one that its promise variant stands for. */
interface MysqlClient extends MysqlConnection {
  pool?: MysqlClient
  connection?: MysqlClient
  getConnection?: unknown
}

/** What a connection knows of its server. */
export interface MysqlConfig {
  host?: string
  port?: number
  socketPath?: string
  database?: string
}

/** A statement as `query` takes it: an options object, or the command a pool made of one. */
interface MysqlStatement {
  sql: string
  onResult?: ((error?: unknown, ...results: unknown[]) => unknown) | undefined
}

/**
 * Returns the same pool or connection, its statements traced.
 *
 * @throws {TypeError} for what has no `query` and `execute`.
 * @example export const pool = instrumentMysql2(mysql.createPool(process.env.DATABASE_URL))
 */
export function instrumentMysql2<Client extends MysqlConnection>(client: Client): Client {
  if (typeof client?.query !== 'function' || typeof client.execute !== 'function')
    throw new TypeError('instrumentMysql2: "client" must be a pool or a connection of mysql2.')
  const core = client as MysqlClient
  const pool = core.pool ?? core
  if (typeof pool.getConnection === 'function') {
    wrapMysqlPool(pool)
  } else wrapMysqlConnection(core.connection ?? core)
  return client
}

/** Wraps the class, or base class, that holds `query` and `execute`. Once. */
export function wrapMysqlConnection(connection: MysqlConnection): void {
  wrapOnce(ownerOf(connection, 'query'), 'query', (query) => traced(query, { isCommented: true }))
  // The client keeps prepared statements by their text: a comment that changes would fill its cache, and the
  // server's.
  wrapOnce(ownerOf(connection, 'execute'), 'execute', (execute) => traced(execute, { isCommented: false }))
}

/** Who waits for a connection is called back by the request that gives one up: it goes on in its own. Once. */
export function wrapMysqlPool(pool: object): void {
  wrapOnce(ownerOf(pool, 'getConnection'), 'getConnection', (getConnection) => {
    return function (this: { config?: { connectionConfig?: MysqlConfig } }, ...args) {
      const startedAt = performance.now()
      const [callback] = args
      if (typeof callback !== 'function') return getConnection.apply(this, args)
      args[0] = bindContext((error: unknown, connection?: MysqlConnection, ...rest: unknown[]) => {
        if (error) {
          const target = targetOf(this.config?.connectionConfig)
          showConnectFailure({ kind: 'database', target, startedAt }, error)
        }
        // A pool does not tell the class of its connections; each of them does.
        if (connection) wrapMysqlConnection(connection)
        return callback(error, connection, ...rest)
      })
      return unannounced(() => getConnection.apply(this, args))
    }
  })
}

function traced(method: WrappedMethod, { isCommented }: { isCommented: boolean }): WrappedMethod {
  return function (this: { config?: MysqlConfig }, ...args) {
    const text = textOf(args[0])
    const call = isShownByOthers(this, 'query') ? undefined : openStatement(targetOf(this.config), text)
    if (isCommented) args[0] = withText(args[0], commentSql(text, call?.span))
    bindCallback(args, call)
    try {
      const command = unannounced(() => method.apply(this, args)) as EventEmitter | undefined
      bindEvents(command, call)
      return command
    } catch (error) {
      if (call !== undefined) settleCall(call, error)
      throw error
    }
  }
}

function textOf(statement: unknown): string {
  if (typeof statement === 'string') return statement
  const { sql } = (statement ?? {}) as { sql?: unknown }
  return typeof sql === 'string' ? sql : ''
}

function withText(statement: unknown, sql: string): unknown {
  if (typeof statement === 'string') return sql
  if (typeof statement !== 'object' || statement === null || sql === '') return statement
  if (isCommand(statement)) {
    statement.sql = sql
    return statement
  }
  // What a template tag makes may have its values on its class, where a copy does not reach.
  const { values } = statement as { values?: unknown }
  return values === undefined ? { ...statement, sql } : { ...statement, sql, values }
}

/** The command that a pool made: its class matters, and it is nobody else's. */
function isCommand(statement: object): statement is MysqlStatement {
  return 'onResult' in statement
}

/** Keeps the caller's context for its callback, wherever it was given. */
function bindCallback(args: unknown[], call: OpenCall | undefined): void {
  const at = args.findIndex((argument) => typeof argument === 'function')
  const command = args[0] as MysqlStatement | undefined
  const callback = (at < 0 ? command?.onResult : args[at]) as MysqlStatement['onResult']
  if (typeof callback !== 'function') return
  const bound = bindContext(function (this: unknown, error?: unknown, ...results: unknown[]) {
    if (call !== undefined && error) settleCall(call, error)
    return callback.call(this, error, ...results)
  })
  if (at >= 0) args[at] = bound
  else if (command !== undefined) command.onResult = bound
}

/** Keeps the caller's context for its listeners, and for the stream that listens in their place. */
function bindEvents(command: EventEmitter | undefined, call: OpenCall | undefined): void {
  if (typeof command?.emit !== 'function') {
    if (call !== undefined) closeCall(call)
    return
  }
  command.emit = bindContext(command.emit)
  if (call === undefined) return
  command.once(errorMonitor, (error) => settleCall(call, error))
  command.once('end', () => closeCall(call))
}

const targets = new WeakMap<object, DatabaseTarget>()

function targetOf(config: MysqlConfig = {}): DatabaseTarget {
  let target = targets.get(config)
  if (target === undefined) {
    const { host = 'localhost', port = 3306, socketPath, database } = config
    target = {
      system: 'mysql',
      namespace: database || undefined,
      serverAddress: socketPath ?? host,
      serverPort: socketPath === undefined ? port : undefined,
    }
    targets.set(config, target)
  }
  return target
}
