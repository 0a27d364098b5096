/** Log lines back from pino NDJSON (`<directory>/logs/*.ndjson`). */
import { join } from 'node:path'
import { LOGS_FOLDER } from '../../telemetry/local-directory.js'
import { LOG_FIELD } from '../../telemetry/names.js'
import { asText, definedOf, type JsonObject, parseObject } from '../files/loose-json.js'
import type { ReadOptions } from '../files/ndjson-files.js'
import { readFolder } from '../files/sources.js'
import { LEVELS } from '../filter/ast.js'

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

const LEVEL_NAMES = new Map<unknown, string>(Object.entries(LEVELS).map(([name, number]) => [number, name]))

/** Log lines in the order they were written. */
export async function* readLogs(directory: string, options: ReadOptions = {}): AsyncGenerator<StoredLog> {
  for await (const line of readFolder(join(directory, LOGS_FOLDER), options)) {
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
  const known = {
    service: asText(service),
    correlationId: asText(correlationId),
    traceId: asText(traceId)?.toLowerCase(),
    spanId: asText(spanId)?.toLowerCase(),
    timeMs: epochMsOf(time),
  }
  return {
    level: LEVEL_NAMES.get(level) ?? (typeof level === 'string' ? level : String(level ?? 'none')),
    message: asText(msg) ?? '',
    ...definedOf(known),
    fields,
  }
}

/** A line's time, as pino or another logger wrote it; undefined for what is none. */
export function epochMsOf(time: unknown): number | undefined {
  const ms = typeof time === 'string' ? Date.parse(time) : time
  return typeof ms === 'number' && Number.isFinite(ms) ? ms : undefined
}
