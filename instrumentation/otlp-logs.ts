/**
 * Log lines as OTLP log records, through the logger provider of the SDK that runs: one resource, one batch, one
 * shutdown with the spans. pino-opentelemetry-transport would have its own of each, in a worker.
 *
 * The provider is found where both lines of the API keep it, by its structure: `@opentelemetry/api-logs` (2.x)
 * comes with an SDK only, and 3.x has it in `@opentelemetry/api`.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { type Context, isSpanContextValid, ROOT_CONTEXT, type SpanContext, trace } from '@opentelemetry/api'
import { epochMs } from '../src/context/index.js'
import { LOG_LEVELS } from '../src/logging/logger.js'
import type { SharedSink } from '../src/logging/sinks.js'
import { HTTP_LOG_RECORD_ATTRIBUTE, LOG_FIELD, LOG_RECORD_ATTRIBUTE, SCOPE } from '../src/telemetry/names.js'

/** The part of the OTel logs API that is called. */
interface LoggerProvider {
  getLogger(name: string): { emit(record: LogRecord): void }
  forceFlush?(): Promise<void>
}

/** Seconds and nanoseconds since 1970: OTel takes a number below the process's start for one since then. */
type HrTime = [seconds: number, nanoseconds: number]

interface LogRecord {
  timestamp: HrTime
  observedTimestamp: HrTime
  severityNumber: number
  severityText: string
  body?: string
  attributes: Attributes
  context: Context
}

type Attributes = Record<string, JsonValue>
type JsonValue = string | number | boolean | JsonValue[] | { [name: string]: JsonValue | null }
type Line = Record<string, JsonValue | null>

/** A running export of log lines. */
export interface OtlpLogs extends SharedSink {
  /** Exports the lines written so far. */
  exportNow(): Promise<void>
}

/**
 * A sink that emits each line as it stands, redacted, to the registered logger provider. Undefined where no SDK
 * registered one. `serviceName` is the resource's, which no record repeats.
 */
export function createOtlpLogs(serviceName: string): OtlpLogs | undefined {
  const provider = registeredLoggerProvider()
  if (provider === undefined) return undefined
  const otelLogger = provider.getLogger(SCOPE)
  const isExport = new AsyncLocalStorage<true>()
  // The SDK's batches and exports run outside every request. It calls Date.now(), which aborts a prerender of
  // Next's, and what it logs about an export that failed must not be exported in turn.
  const inExport = isExport.run(true, () => AsyncLocalStorage.snapshot())
  return {
    write(text) {
      if (isExport.getStore() === true) return
      try {
        const record = recordOf(JSON.parse(text) as Line, serviceName)
        inExport(() => otelLogger.emit(record))
      } catch {
        // It is on standard output; logging never fails a request.
      }
    },
    async exportNow() {
      await inExport(async () => provider.forceFlush?.())
    },
  }
}

function registeredLoggerProvider(): LoggerProvider | undefined {
  const globals = globalThis as Record<symbol, unknown>
  const getProvider = globals[Symbol.for('io.opentelemetry.js.api.logs')]
  const api = globals[Symbol.for('opentelemetry.js.api.1')] as { logs?: unknown } | undefined
  const provider = typeof getProvider === 'function' ? getProvider(1) : api?.logs
  return typeof (provider as LoggerProvider | undefined)?.getLogger === 'function'
    ? (provider as LoggerProvider)
    : undefined
}

function recordOf(line: Line, serviceName: string): LogRecord {
  const { level, time, msg, ...fields } = line
  const observedMs = epochMs()
  const { severityNumber, severityText } = severityOf(level)
  const spanContext = takeSpanContext(fields)
  if (fields[LOG_FIELD.service] === serviceName) delete fields[LOG_FIELD.service]
  return {
    timestamp: hrTime(typeof time === 'number' ? time : observedMs),
    observedTimestamp: hrTime(observedMs),
    severityNumber,
    severityText,
    ...(msg === undefined || msg === null
      ? {}
      : { body: typeof msg === 'string' ? msg : JSON.stringify(msg) }),
    attributes: attributesOf(fields),
    context: spanContext === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, spanContext),
  }
}

/** The line's span. A trace ID alone, where no spans are recorded, stays a field: a record has both or none. */
function takeSpanContext(fields: Line): SpanContext | undefined {
  const {
    [LOG_FIELD.traceId]: traceId,
    [LOG_FIELD.spanId]: spanId,
    [LOG_FIELD.traceFlags]: traceFlags,
  } = fields
  const spanContext = { traceId, spanId, traceFlags: Number(traceFlags ?? 0) } as SpanContext
  if (typeof traceId !== 'string' || typeof spanId !== 'string' || !isSpanContextValid(spanContext))
    return undefined
  delete fields[LOG_FIELD.traceId]
  delete fields[LOG_FIELD.spanId]
  delete fields[LOG_FIELD.traceFlags]
  return spanContext
}

/** OTel's ranges of severity, of four numbers each. pino's levels begin them, ten apart. */
const SEVERITIES = LOG_LEVELS.filter((level) => level !== 'silent').map((level) => level.toUpperCase())

function severityOf(level: unknown): { severityNumber: number; severityText: string } {
  const number = typeof level === 'string' ? (LOG_LEVELS.indexOf(level) + 1) * 10 : Number(level)
  if (!(number > 0)) return { severityNumber: 0, severityText: String(level ?? '') }
  const range = Math.min(Math.max(Math.floor(number / 10), 1), SEVERITIES.length)
  const within = Math.min(Math.max(Math.floor(((number - range * 10) * 4) / 10), 0), 3)
  return {
    severityNumber: (range - 1) * 4 + 1 + within,
    severityText: `${SEVERITIES[range - 1]}${within === 0 ? '' : within + 1}`,
  }
}

function attributesOf(fields: Line): Attributes {
  const attributes: Attributes = {}
  const isHttp = LOG_FIELD.method in fields && LOG_FIELD.path in fields
  addFields(attributes, '', fields, isHttp)
  return attributes
}

function addFields(attributes: Attributes, prefix: string, fields: Line, isHttp: boolean): void {
  for (const name of Object.keys(fields)) {
    const value = fields[name]
    const path = prefix + name
    if (value === null || value === undefined) continue
    if (typeof value === 'object' && !Array.isArray(value)) addFields(attributes, `${path}.`, value, false)
    else attributes[attributeName(path, isHttp)] = value
  }
}

const ERROR_PREFIX = `${LOG_FIELD.error}.`

function attributeName(path: string, isHttp: boolean): string {
  if (isHttp && Object.hasOwn(HTTP_LOG_RECORD_ATTRIBUTE, path)) return HTTP_LOG_RECORD_ATTRIBUTE[path] ?? path
  if (Object.hasOwn(LOG_RECORD_ATTRIBUTE, path)) return LOG_RECORD_ATTRIBUTE[path] ?? path
  // The rest of an error: its code, its causes.
  return path.startsWith(ERROR_PREFIX) ? `exception.${path.slice(ERROR_PREFIX.length)}` : path
}

function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000)
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)]
}
