/** Found lines as rows of CSV. */
import type { FieldPath } from '../../query/filter/ast.js'
import { type LogEntry, valueAt } from '../../query/filter/match.js'
import { printField } from '../../query/filter/print.js'
import { storedLog } from '../../query/logs/log-files.js'
import { LOG_FIELD } from '../../telemetry/names.js'
import { csvRow } from '../terminal/csv.js'
import type { LineFormat } from './line-format.js'

/** What --csv has of a line, unless --fields says. */
const DEFAULT_FIELDS: readonly FieldPath[] = [
  [LOG_FIELD.service],
  [LOG_FIELD.correlationId],
  [LOG_FIELD.traceId],
  [LOG_FIELD.action],
  [LOG_FIELD.route],
  [LOG_FIELD.method],
  [LOG_FIELD.status],
  [LOG_FIELD.durationMs],
  [LOG_FIELD.error, 'message'],
]

export function csvFormat(fields: readonly FieldPath[] = DEFAULT_FIELDS): LineFormat {
  return {
    heading: csvRow(['time', 'level', 'msg', ...fields.map(printField)]),
    write: ({ entry }) => csvRow([...headOf(entry), ...fields.map((field) => valueAt(entry, field))]),
  }
}

function headOf(entry: LogEntry): (string | undefined)[] {
  const { timeMs, level, message } = storedLog(entry)
  return [timeMs === undefined ? undefined : timeText(timeMs), level, message]
}

function timeText(timeMs: number): string | undefined {
  const date = new Date(timeMs)
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString()
}
