/** A connection that cannot be had: it leaves no statement or command behind to be shown, so the failure is. */
import { type CallKind, tryGetContext } from '../context/index.js'
import { type ClientTarget, closeCall, failCall, openCall } from './client-span.js'

/** Failures already shown: a pool hands on that of its connection. */
const shown = new WeakSet<object>()

/** What could not be reached, and since when. */
export interface ConnectAttempt {
  kind: CallKind
  target: ClientTarget
  /** By `performance.now()`. */
  startedAt: number
}

/** Shows a failed attempt in the active request as a span `CONNECT`, once for each error. */
export function showConnectFailure(attempt: ConnectAttempt, error: unknown): void {
  const { kind, target, startedAt } = attempt
  const requestContext = tryGetContext()
  if (requestContext === undefined || typeof error !== 'object' || error === null || shown.has(error)) return
  shown.add(error)
  const operation = 'CONNECT'
  const call = openCall(requestContext, { kind, name: operation, operation, target, startedAt })
  failCall(call, error)
  closeCall(call)
}
