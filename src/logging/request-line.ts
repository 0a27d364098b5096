/** The canonical line: one per request, written when the response is closed. */
import type { CallKind, RequestContext } from '../context/index.js'
import { LOG_FIELD } from '../telemetry/names.js'
import { logger, spanFields } from './logger.js'

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
    // The response is closed, so no span is active: the line belongs to the first.
    ...(context.firstSpan === undefined ? undefined : spanFields(context.firstSpan)),
    [LOG_FIELD.method]: context.method,
    [LOG_FIELD.path]: context.path,
    [LOG_FIELD.status]: end.status,
    [LOG_FIELD.durationMs]: round(end.durationMs),
  }
  if (end.isAborted) line[LOG_FIELD.aborted] = true
  for (const kind of Object.keys(context.calls) as CallKind[]) {
    const tally = context.calls[kind]
    if (tally === undefined) continue
    line[`${kind}_calls`] = tally.count
    line[`${kind}_ms`] = round(tally.durationMs)
  }
  if (context.idempotency !== undefined) line[LOG_FIELD.idempotency] = context.idempotency
  logger[level](line, 'request completed')
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100
}
