/** A pino logger whose every line bears the request's IDs, read from the context when the line is written. */
import { type Span, trace } from '@opentelemetry/api'
import pino, { type Bindings, type ChildLoggerOptions, type Logger, type LoggerOptions } from 'pino'
import { epochMs, processWide, tryGetContext } from '../context/index.js'
import { LOG_FIELD } from '../telemetry/names.js'
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
  /** Where lines go. Default: standard output, and the local files when they are on. */
  destination?: LogSink
}

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
 * `trace_id`, `span_id`, `trace_flags`, and `action` and `route` where known.
 *
 * @example
 * const log = createLogger({ level: 'debug' })
 * log.info({ orderId }, 'order placed')
 */
export function createLogger(options: CreateLoggerOptions = {}): Logger {
  const pinoOptions: LoggerOptions = {
    level: options.level ?? defaults.level ?? process.env.THROUGHLINE_LOG_LEVEL ?? 'info',
    base: null,
    timestamp: prerenderSafeTimestamp,
    mixin: () => contextFields(options.service),
    serializers: { [LOG_FIELD.error]: serializeError },
    formatters: { log: redactSecrets },
    ...(options.redact === undefined ? {} : { redact: { paths: [...options.redact], censor: CENSOR } }),
  }
  return redactBindings(pino(pinoOptions, options.destination ?? sharedDestination))
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
  if (span !== undefined) Object.assign(fields, spanFields(span))
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

/** An error as a log line shows it. */
interface LoggedError {
  type: string
  message: string
  stack?: string
  code?: string
  /** Next's digest: what a user sees on the error page. */
  digest?: string
  cause?: LoggedError
}

/** Deepest chain of causes written. */
const MAX_CAUSES = 5

// pino's own serializer copies every property of an error; a database driver puts row values there
// (`detail: "Key (email)=(a@b.c) already exists"`), so only named fields are written.
function serializeError(value: unknown, depth = 0): LoggedError | undefined {
  if (value === undefined || value === null) return undefined
  if (!(value instanceof Error) && !isErrorLike(value)) return { type: typeof value, message: String(value) }
  const error = value as Error & { code?: unknown; digest?: unknown }
  const logged: LoggedError = { type: error.name ?? 'Error', message: String(error.message) }
  if (typeof error.stack === 'string') logged.stack = error.stack
  if (typeof error.code === 'string') logged.code = error.code
  if (typeof error.digest === 'string') logged.digest = error.digest
  if (error.cause !== undefined && depth < MAX_CAUSES) {
    const cause = serializeError(error.cause, depth + 1)
    if (cause !== undefined) logged.cause = cause
  }
  return logged
}

function isErrorLike(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'message' in value && 'stack' in value
}
