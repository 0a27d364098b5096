/** A log record of OpenTelemetry as a log line of ours. */
import { LOG_FIELD } from '../../telemetry/names.js'
import { type FieldPath, LEVEL_FIELD, TIME_FIELD } from '../filter/ast.js'
import { type LogEntry, valueAt } from '../filter/match.js'
import { levelOf, putAttribute, recordFieldOf } from '../filter/otel-fields.js'

export interface OtelRecord {
  /** Epoch milliseconds. */
  timeMs: number
  severityNumber: number
  severityText: string
  body: string
  service: string
  traceId: string
  spanId: string
  flags: number
  /** One that has the name of another field of a line is not shown. */
  attributes: Iterable<readonly [string, string]>
}

/** What is empty is left out. */
export function entryOf(record: OtelRecord): LogEntry {
  const entry: Record<string, unknown> = { [TIME_FIELD]: record.timeMs }
  const level = levelOf(record.severityNumber, record.severityText)
  if (level !== undefined) entry[LEVEL_FIELD] = level
  if (record.service !== '') entry[LOG_FIELD.service] = record.service
  if (record.traceId !== '') entry[LOG_FIELD.traceId] = record.traceId
  if (record.spanId !== '') entry[LOG_FIELD.spanId] = record.spanId
  if (record.traceId !== '') entry[LOG_FIELD.traceFlags] = record.flags
  if (record.body !== '') entry.msg = record.body
  for (const [name, value] of record.attributes)
    if (recordFieldOf([name]) === undefined) putAttribute(entry, name, value)
  return entry
}

/**
 * The entry as a filter is asked of it: with the fields that it names and the entry has under another name, since a
 * store writes `order.id` as `order_id`, or we show `exception.type` as `err.type`.
 *
 * @param storedValue what the store has for a field, by whatever name
 */
export function asAskedFor(
  entry: LogEntry,
  fields: readonly FieldPath[],
  storedValue: (field: FieldPath) => string | undefined,
): LogEntry {
  const added: [string, string][] = []
  for (const field of fields) {
    if (recordFieldOf(field) !== undefined || valueAt(entry, field) !== undefined) continue
    const value = storedValue(field)
    if (value !== undefined) added.push([field.join('.'), value])
  }
  return added.length === 0 ? entry : { ...entry, ...Object.fromEntries(added) }
}
