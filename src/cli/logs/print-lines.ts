/** Found lines, one after the other. */
import type { FieldPath } from '../../query/filter/ast.js'
import { type LogEntry, valueAt } from '../../query/filter/match.js'
import { printField } from '../../query/filter/print.js'
import type { FoundLine } from '../../query/logs/find-logs.js'
import { storedLog } from '../../query/logs/log-files.js'
import { LOG_FIELD } from '../../telemetry/names.js'
import { csvRow } from '../terminal/csv.js'
import type { Output } from '../terminal/output.js'
import { printableJson } from '../terminal/printable.js'
import type { Terminal } from '../terminal/terminal.js'
import type { LogsOptions } from './options.js'
import { renderLog } from './render-log.js'

/** What --csv has of a line, unless --fields says. */
const CSV_FIELDS: readonly FieldPath[] = [
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

/** A found line as a text, with its line end. */
export type WriteLine = (line: FoundLine) => string

export interface LineFormat {
  /** Above the lines. */
  heading: string
  write: WriteLine
}

export function lineFormatOf({ json, csv, fields }: LogsOptions, terminal: Terminal): LineFormat {
  if (json === true) return { heading: '', write: ({ text }) => `${printableJson(text.trim())}\n` }
  if (csv !== true) return { heading: '', write: ({ entry }) => renderLog(entry, fields, terminal) }
  const columns = fields ?? CSV_FIELDS
  return {
    heading: csvRow(['time', 'level', 'msg', ...columns.map(printField)]),
    write: ({ entry }) => csvRow([...headOf(entry), ...columns.map((field) => valueAt(entry, field))]),
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

/** Returns how many there are. Stops when nobody reads any more. */
export async function printLines(
  lines: AsyncIterable<FoundLine> | Iterable<FoundLine>,
  { heading, write }: LineFormat,
  output: Output,
): Promise<number> {
  let found = 0
  for await (const line of lines) {
    if (output.isClosed) break
    if (found === 0 && heading !== '') await output.write(heading)
    found += 1
    const written = output.write(write(line))
    if (written !== undefined) await written
  }
  return found
}
