/**
 * `mysql2` ≥3.20 announces its statements on `diagnostics_channel`s: spans without a line in the app, also where Next
 * bundles it. A channel cannot change a statement, so there is no comment; `instrumentMysql2` adds it.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type Channel, tracingChannel } from 'node:diagnostics_channel'
import { type Context, context } from '@opentelemetry/api'
import { processWide, type RequestContext, runInContext, tryGetContext } from '../../context/index.js'
import { announcementsOf } from '../announcements.js'
import { type OpenCall, settleCall } from '../client-span.js'
import { showConnectFailure } from '../connect-failure.js'
import { type DatabaseTarget, openStatement } from './statement-span.js'

/** A message on `mysql2:query` or `mysql2:execute`. */
interface StatementMessage {
  /** With its values already in it, for `query`. */
  query: string
  database: string
  serverAddress: string
  serverPort: number | undefined
  error?: unknown
  [CALL]?: OpenCall | undefined
}

/** A message on `mysql2:pool:connect`. */
interface PoolMessage extends Omit<StatementMessage, 'query'> {
  [CALLER]?: Caller
}

/** Who waits for a connection. */
interface Caller {
  requestContext: RequestContext
  context: Context
  startedAt: number
}

const CALL = Symbol('throughline.call')
const CALLER = Symbol('throughline.caller')

const { areKnown, unannounced } = announcementsOf('mysql2')

export { unannounced }

/** Ends what `traceMysql2` began: another bundle may have done that. */
const subscription = processWide('clients.mysql2.subscription', () => ({ end: () => {} }))

/** Called when the client is hooked as it is loaded: all of it is shown by that, and announcing is not free. */
export function stopListening(): void {
  subscription.end()
  subscription.end = () => {}
}

/** Subscribes to the channels. Call once per process, at any time. */
export function traceMysql2(): void {
  // Who waits for a connection is called back by the request that gives one up.
  const waiting = new AsyncLocalStorage<Caller | undefined>()
  const pool = tracingChannel<unknown, PoolMessage>('mysql2:pool:connect')
  const wait = (message: unknown) => {
    const requestContext = areKnown() ? undefined : tryGetContext()
    if (requestContext === undefined) return
    ;(message as PoolMessage)[CALLER] = {
      requestContext,
      context: context.active(),
      startedAt: performance.now(),
    }
  }
  const showFailure = (message: unknown) => {
    const { [CALLER]: caller, error } = message as PoolMessage
    if (caller === undefined || !error) return
    const { startedAt } = caller
    const target = targetOf(message as PoolMessage)
    inContextOf(caller, () => showConnectFailure({ kind: 'database', target, startedAt }, error))
  }

  const open = (message: unknown, isFilledIn: boolean) => {
    if (areKnown()) return
    const { query } = message as StatementMessage
    const start = () => openStatement(targetOf(message as StatementMessage), query, undefined, isFilledIn)
    const caller = waiting.getStore()
    ;(message as StatementMessage)[CALL] = caller === undefined ? start() : inContextOf(caller, start)
  }
  const close = (message: unknown) => {
    const { [CALL]: call, error } = message as StatementMessage
    if (call !== undefined) settleCall(call, error)
  }
  const query = tracingChannel<unknown, StatementMessage>('mysql2:query')
  const execute = tracingChannel<unknown, StatementMessage>('mysql2:execute')
  const bound = waiting as unknown as AsyncLocalStorage<PoolMessage>
  pool.asyncStart.bindStore(bound, (message) => message[CALLER] as unknown as PoolMessage)
  const listeners: [Channel, (message: unknown) => void][] = [
    [pool.start, wait],
    [pool.asyncStart, showFailure],
    [query.start, (message) => open(message, true)],
    [query.asyncStart, close],
    [execute.start, (message) => open(message, false)],
    [execute.asyncStart, close],
  ]
  for (const [channel, listener] of listeners) channel.subscribe(listener)
  subscription.end = () => {
    pool.asyncStart.unbindStore(bound)
    for (const [channel, listener] of listeners) channel.unsubscribe(listener)
  }
}

function inContextOf<T>(caller: Caller, run: () => T): T {
  return runInContext(caller.requestContext, () => context.with(caller.context, run))
}

function targetOf({ database, serverAddress, serverPort }: Omit<StatementMessage, 'query'>): DatabaseTarget {
  return { system: 'mysql', namespace: database || undefined, serverAddress, serverPort }
}
