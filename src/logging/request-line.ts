/** The canonical line: one per request, written when the response is closed. */
import type { CallKind, RequestContext } from '../context/index.js'
import { logger } from './logger.js'

/** How the response ended. */
export interface RequestEnd {
  status: number
  durationMs: number
  /** True when the client went away before the response was complete. */
  isAborted: boolean
}

/** Logs `request completed` with what the request did: status, time, calls by kind, idempotency. */
export function logRequestCompleted(context: RequestContext, end: RequestEnd): void {
  const level = end.status >= 500 ? 'error' : end.isAborted ? 'warn' : 'info'
  const line: Record<string, unknown> = {
    method: context.method,
    path: context.path,
    status: end.status,
    duration_ms: round(end.durationMs),
  }
  if (end.isAborted) line.aborted = true
  for (const kind of Object.keys(context.calls) as CallKind[]) {
    const tally = context.calls[kind]
    if (tally === undefined) continue
    line[`${kind}_calls`] = tally.count
    line[`${kind}_ms`] = round(tally.durationMs)
  }
  if (context.idempotency !== undefined) line.idempotency = context.idempotency
  logger[level](line, 'request completed')
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100
}
