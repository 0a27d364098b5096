/** A pino logger whose every line bears the request's IDs, read from the context when the line is written. */
import { INVALID_SPANID, type Span, trace } from '@opentelemetry/api'
import pino, { type Bindings, type ChildLoggerOptions, type Logger, type LoggerOptions } from 'pino'
import { epochMs, processWide, tryGetContext } from '../context/index.js'
import { LOG_FIELD } from '../telemetry/names.js'
import { errorFields } from './error-fields.js'
import { guardDestination } from './guard-destination.js'
import { CENSOR, redactSecrets } from './redaction.js'
import { type LogSink, sharedDestination } from './sinks.js'

/** Options of `createLogger`. */
export interface CreateLoggerOptions {
  /** Lowest level written. Default `THROUGHLINE_LOG_LEVEL`, else `info`. */
  level?: string
  /** Value of the `service` field. Default: the name given to `throughline()`, else `OTEL_SERVICE_NAME`. */
  service?: string
  /** Paths to blank beside the fields with a telling name (`password`, `token`, …), in pino's `redact` syntax. */
  redact?: readonly string[]
  /**
   * Where lines go: any destination or transport of pino's. What it throws, and its `error` events, are reported
   * once and reach no caller. Default: standard output, and the local files and OTLP when they are on.
   */
  destination?: LogSink
}

/** Levels that a logger can be set to, from the most to the least it writes. */
export const LOG_LEVELS: readonly string[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

/** What `throughline()` tells loggers that were made before it. */
const defaults = processWide<{ service: string | undefined; level: string | undefined }>(
  'logging.defaults',
  () => ({ service: undefined, level: undefined }),
)

/** Sets the service name and level of the shared logger. Called by `register()`. */
export function setLoggingDefaults(values: { service?: string; level?: string }): void {
  if (values.service !== undefined) defaults.service = values.service
  if (values.level !== undefined) {
    defaults.level = values.level
    logger.level = values.level
  }
}

/**
 * Creates a logger. Lines are NDJSON: `time` (epoch ms), `level`, `msg`, `service`, `correlation_id`,
 * `trace_id`, `span_id`, `trace_flags`, and `action` and `route` where known. Fields with a telling name are
 * blanked, but for `%o` arguments of a message and a child with formatters of its own.
 *
 * @throws {Error} pino's own, for a level that it does not know.
 * @example
 * const log = createLogger({ level: 'debug' })
 * log.info({ orderId }, 'order placed')
 */
export function createLogger(options: CreateLoggerOptions = {}): Logger {
  const pinoOptions: LoggerOptions = {
    level: options.level ?? defaults.level ?? levelFromEnvironment() ?? 'info',
    base: null,
    timestamp: prerenderSafeTimestamp,
    mixin: () => contextFields(options.service),
    serializers: { [LOG_FIELD.error]: (error) => errorFields(error) },
    formatters: { log: redactSecrets },
    ...(options.redact === undefined ? {} : { redact: { paths: [...options.redact], censor: CENSOR } }),
  }
  const destination =
    options.destination === undefined ? sharedDestination : guardDestination(options.destination)
  return redactBindings(pino(pinoOptions, destination))
}

// A variable that is wrong must not keep the app from starting, as it would where pino throws.
function levelFromEnvironment(): string | undefined {
  const level = process.env.THROUGHLINE_LOG_LEVEL
  if (level === undefined || LOG_LEVELS.includes(level)) return level
  process.emitWarning(
    `THROUGHLINE_LOG_LEVEL must be one of ${LOG_LEVELS.join(', ')}, received ${JSON.stringify(level)}: using info.`,
  )
  return undefined
}

/** The methods that take fields to write on every later line; their generic signatures are kept by `Logger`. */
interface BindingMethods {
  child(bindings: Bindings, options?: ChildLoggerOptions): unknown
  setBindings(bindings: Bindings): void
}

// pino gives the fields of a child to no formatter. Children inherit what is set on their parent.
function redactBindings(parent: Logger): Logger {
  const methods = parent as unknown as BindingMethods
  const { child, setBindings } = methods
  methods.child = function (bindings, options) {
    return child.call(this, redactSecrets(bindings), options)
  }
  methods.setBindings = function (bindings) {
    setBindings.call(this, redactSecrets(bindings))
  }
  return parent
}

/** The process's shared logger. */
export const logger: Logger = processWide('logging.logger', () => createLogger())

// Next aborts a prerender that calls Date.now(); the monotonic clock is allowed there.
function prerenderSafeTimestamp(): string {
  return `,"time":${epochMs()}`
}

function contextFields(service: string | undefined): Record<string, unknown> {
  const fields: Record<string, unknown> = {
    [LOG_FIELD.service]: service ?? defaults.service ?? process.env.OTEL_SERVICE_NAME,
  }
  const requestContext = tryGetContext()
  if (requestContext !== undefined) fields[LOG_FIELD.correlationId] = requestContext.correlationId
  const span = trace.getActiveSpan()
  // Where nothing records spans, the active one has no IDs.
  if (span !== undefined && span.spanContext().spanId !== INVALID_SPANID)
    Object.assign(fields, spanFields(span))
  else if (requestContext !== undefined) fields[LOG_FIELD.traceId] = requestContext.traceId
  if (requestContext?.action !== undefined) fields[LOG_FIELD.action] = requestContext.action.name
  if (requestContext?.route !== undefined) fields[LOG_FIELD.route] = requestContext.route
  return fields
}

/** The fields that tie a line to a span. */
export function spanFields(span: Span): Record<string, unknown> {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return {
    [LOG_FIELD.traceId]: traceId,
    [LOG_FIELD.spanId]: spanId,
    [LOG_FIELD.traceFlags]: traceFlags,
  }
}
