/** A connection that cannot be had: it leaves no statement behind to be shown, so the failure is. */
import { tryGetContext } from '../../context/index.js'
import { closeCall, failCall, openCall } from '../client-span.js'
import type { DatabaseTarget } from './statement-span.js'

/** Failures already shown: a pool hands on that of its connection. */
const shown = new WeakSet<object>()

/**
 * Shows a failed connect in the active request, once.
 *
 * @param startedAt by `performance.now()`
 */
export function showConnectFailure(target: DatabaseTarget, startedAt: number, error: unknown): void {
  const requestContext = tryGetContext()
  if (requestContext === undefined || typeof error !== 'object' || error === null || shown.has(error)) return
  shown.add(error)
  const operation = 'CONNECT'
  const call = openCall(requestContext, { kind: 'database', name: operation, operation, target, startedAt })
  failCall(call, error)
  closeCall(call)
}
