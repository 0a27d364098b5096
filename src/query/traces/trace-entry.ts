/** What a filter can ask of a trace: its summary, under the names that log lines have for the same. */
import { LOG_FIELD } from '../../telemetry/names.js'
import { type FieldPath, TIME_FIELD } from '../filter/ast.js'
import type { LogEntry } from '../filter/match.js'
import type { TraceSummary } from './trace-summary.js'

export function traceEntry(trace: TraceSummary): LogEntry {
  return {
    [TIME_FIELD]: trace.startTimeMs,
    [LOG_FIELD.durationMs]: trace.durationMs,
    name: trace.name,
    [LOG_FIELD.method]: trace.method,
    [LOG_FIELD.route]: trace.route,
    [LOG_FIELD.status]: trace.status,
    [LOG_FIELD.action]: trace.action,
    outcome: trace.outcome,
    topic: trace.topic,
    attempt: trace.attempt,
    [LOG_FIELD.service]: trace.service,
    services: trace.services,
    [LOG_FIELD.correlationId]: trace.correlationId,
    [LOG_FIELD.traceId]: trace.traceId,
    spans: trace.spans,
    errors: trace.errors,
    hit: trace.hits > 0,
    hits: trace.hits,
    race: trace.isRace,
    complete: trace.isComplete,
    [LOG_FIELD.idempotency]: {
      hit: trace.hits > 0,
      outcome: trace.idempotencyOutcome,
      key_hash: trace.keyHash,
    },
  }
}

/** The names of all fields; of nested ones with dots. */
export const TRACE_FIELDS: readonly string[] = Object.entries(
  traceEntry({
    ...{ traceId: '', startTimeMs: 0, durationMs: 0, name: '', services: [], spans: 0, errors: 0, hits: 0 },
    ...{ isRace: false, isComplete: true },
  }),
).flatMap(([name, value]) =>
  name === LOG_FIELD.idempotency ? Object.keys(value as object).map((inner) => `${name}.${inner}`) : [name],
)

export function isTraceField(field: FieldPath): boolean {
  return TRACE_FIELDS.includes(field.join('.'))
}
