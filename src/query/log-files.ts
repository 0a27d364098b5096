/** Log lines back from pino NDJSON (`<directory>/logs/*.ndjson`). */
import { join } from 'node:path'
import { LOGS_FOLDER } from '../telemetry/local-directory.js'
import { LOG_FIELD } from '../telemetry/names.js'
import { asText, type JsonObject, parseObject } from './loose-json.js'
import { type ReadOptions, readLines } from './ndjson-files.js'

/** One log line as it was written. */
export interface StoredLog {
  /** Epoch milliseconds; absent when the line has no time that can be read. */
  timeMs?: number
  /** `trace`, `debug`, `info`, `warn`, `error`, `fatal`, or what the line says instead. */
  level: string
  message: string
  service?: string
  correlationId?: string
  traceId?: string
  spanId?: string
  /** The line's other fields. */
  fields: JsonObject
}

/** pino's numbers (https://getpino.io/#/docs/api?id=level-string). */
const LEVELS = new Map<unknown, string>([
  [10, 'trace'],
  [20, 'debug'],
  [30, 'info'],
  [40, 'warn'],
  [50, 'error'],
  [60, 'fatal'],
])

/** Log lines in the order they were written. */
export async function* readLogs(directory: string, options: ReadOptions = {}): AsyncGenerator<StoredLog> {
  for await (const line of readLines(join(directory, LOGS_FOLDER), options)) {
    const entry = parseObject(line)
    if (entry !== undefined) yield storedLog(entry)
    else if (options.tally !== undefined) options.tally.unreadableLines += 1
  }
}

export function storedLog(entry: JsonObject): StoredLog {
  const {
    time,
    level,
    msg,
    [LOG_FIELD.service]: service,
    [LOG_FIELD.correlationId]: correlationId,
    [LOG_FIELD.traceId]: traceId,
    [LOG_FIELD.spanId]: spanId,
    ...fields
  } = entry
  const timeMs = typeof time === 'string' ? Date.parse(time) : time
  const known = {
    service: asText(service),
    correlationId: asText(correlationId),
    traceId: asText(traceId)?.toLowerCase(),
    spanId: asText(spanId)?.toLowerCase(),
    timeMs: typeof timeMs === 'number' && Number.isFinite(timeMs) ? timeMs : undefined,
  }
  return {
    level: LEVELS.get(level) ?? (typeof level === 'string' ? level : String(level ?? 'none')),
    message: asText(msg) ?? '',
    ...definedOf(known),
    fields,
  }
}

type Defined<T> = { [K in keyof T]?: NonNullable<T[K]> }

function definedOf<T extends object>(values: T): Defined<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>
}
