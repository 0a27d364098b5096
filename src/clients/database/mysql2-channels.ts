/**
 * `mysql2` ≥3.20 announces its statements on `diagnostics_channel`s: spans without a line in the app, also where Next
 * bundles it. A channel cannot change a statement, so there is no comment; `instrumentMysql2` adds it.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import { type Context, context } from '@opentelemetry/api'
import { contextStorage, processWide, type RequestContext, tryGetContext } from '../../context/index.js'
import { closeCall, failCall, type OpenCall } from '../client-span.js'
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
  [CALLER]?: { requestContext: RequestContext | undefined; context: Context; startedAt: number }
}

const CALL = Symbol('throughline.call')
const CALLER = Symbol('throughline.caller')

/** The bundle that wraps the client is seldom the one that listens. */
const announcements = processWide('clients.mysql2', () => ({ areKnown: false }))

/** Runs a call whose span is open already: what the channels say of it makes no second one. */
export function unannounced<T>(call: () => T): T {
  const wereKnown = announcements.areKnown
  announcements.areKnown = true
  try {
    return call()
  } finally {
    announcements.areKnown = wereKnown
  }
}

/** Subscribes to the channels. Call once per process, at any time. */
export function traceMysql2(): void {
  // Who waits for a connection is called back by the request that gives one up.
  const caller = new AsyncLocalStorage<Context | undefined>()
  const pool = tracingChannel<unknown, PoolMessage>('mysql2:pool:connect')
  pool.start.subscribe((message) => {
    if (announcements.areKnown) return
    ;(message as PoolMessage)[CALLER] = {
      requestContext: tryGetContext(),
      context: context.active(),
      startedAt: performance.now(),
    }
  })
  pool.asyncStart.bindStore(
    contextStorage as unknown as AsyncLocalStorage<PoolMessage>,
    (message) => (message as PoolMessage)[CALLER]?.requestContext as unknown as PoolMessage,
  )
  pool.asyncStart.bindStore(
    caller as unknown as AsyncLocalStorage<PoolMessage>,
    (message) => (message as PoolMessage)[CALLER]?.context as unknown as PoolMessage,
  )

  pool.asyncStart.subscribe((message) => {
    const { [CALLER]: waiting, error } = message as PoolMessage
    if (waiting === undefined || !error) return
    context.with(waiting.context, () =>
      showConnectFailure(
        { kind: 'database', target: targetOf(message as PoolMessage), startedAt: waiting.startedAt },
        error,
      ),
    )
  })

  const open = (message: unknown) => {
    if (announcements.areKnown) return
    const start = () =>
      openStatement(targetOf(message as StatementMessage), (message as StatementMessage).query)
    const callerContext = caller.getStore()
    ;(message as StatementMessage)[CALL] =
      callerContext === undefined ? start() : context.with(callerContext, start)
  }
  const close = (message: unknown) => {
    const { [CALL]: call, error } = message as StatementMessage
    if (call === undefined) return
    if (error !== undefined && error !== null) failCall(call, error)
    closeCall(call)
  }
  for (const name of ['mysql2:query', 'mysql2:execute']) {
    const channel = tracingChannel<unknown, StatementMessage>(name)
    channel.start.subscribe(open)
    channel.asyncStart.subscribe(close)
  }
}

function targetOf({ database, serverAddress, serverPort }: Omit<StatementMessage, 'query'>): DatabaseTarget {
  return { system: 'mysql', namespace: database || undefined, serverAddress, serverPort }
}
