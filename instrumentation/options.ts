/** What a user can set, and what it becomes when they do not. */
import { DEFAULT_KEY_PATTERNS, type RaceStoreClient } from '../src/clients/settings.js'
import { DEFAULT_CORRELATION_HEADER } from '../src/context/index.js'
import { LOG_LEVELS } from '../src/logging/logger.js'
import { localDirectory } from '../src/telemetry/local-directory.js'

/** Options of `throughline()`. Everything has a default; `OTEL_*` variables are read by the SDK itself. */
export interface ThroughlineOptions {
  /** `service.name` on spans, `service` on log lines. Default `OTEL_SERVICE_NAME`, else `next-app`. */
  serviceName?: string
  /**
   * Request headers that may bring a correlation ID, in order. The first is also the response header and
   * the one sent on. Default `['x-correlation-id']`. Lower case.
   */
  correlationHeaders?: readonly string[]
  /** Hosts, beside loopback and the app's own, whose calls carry the ID: `*.example.com`, or a RegExp. Default none. */
  propagateTo?: readonly (string | RegExp)[]
  /** KV keys that are idempotency keys of a hand-written recipe. `*` stands for anything. Default `['idempotency:*', 'idem:*']`. */
  idempotencyKeys?: readonly string[]
  /**
   * A client of ioredis (≥5), redis (≥4) or `@upstash/redis`, of its own, through which processes tell each other of
   * idempotency keys that their requests missed: a race of a hand-written recipe is then seen across processes too.
   * Two short scripts per missed key, which no request waits for. Default none: seen within a process.
   */
  raceStore?: RaceStoreClient
  /** Append `correlation_id`, `traceparent`, `action` and `route` to SQL statements, as a comment. Default true. */
  sqlComments?: boolean
  /**
   * Set Postgres' `application_name` to the ID: one round trip when a pool gives a connection to another request,
   * and in each transaction of postgres.js. Statements, and so prepared plans, stay as they are. Default false.
   */
  sqlApplicationName?: boolean
  /** Keep the spans of Next's inner steps (`resolve segment modules`, …). Default false. */
  nextInternals?: boolean
  /** Log one `request completed` line per request. Default true. */
  requestLog?: boolean
  /** Lowest log level. Default `THROUGHLINE_LOG_LEVEL`, else `info`. */
  logLevel?: string
  /**
   * Write spans and log lines to `.throughline/` (`THROUGHLINE_DIR` moves it). Default: on when no OTLP
   * endpoint is configured and either `NODE_ENV` is not `production` or `THROUGHLINE_DIR` is set.
   */
  localFiles?: boolean
  /**
   * Export log lines as OTLP log records, through the SDK's logger provider. Default: on when
   * `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT` is set, unless `OTEL_LOGS_EXPORTER` says
   * otherwise (`none`, `otlp`, `console`).
   */
  otlpLogs?: boolean
  /** Longest time to flush spans and lines at shutdown, in milliseconds. Default 5000. */
  flushTimeoutMs?: number
}

/** Options with every default filled in. */
export interface Settings {
  serviceName: string
  correlationHeaders: readonly [string, ...string[]]
  propagateTo: readonly (string | RegExp)[]
  idempotencyKeys: readonly string[]
  raceStore: RaceStoreClient | undefined
  sqlComments: boolean
  sqlApplicationName: boolean
  nextInternals: boolean
  requestLog: boolean
  logLevel: string | undefined
  /** Absolute path of the directory for spans and log lines; undefined when local files are off. */
  localFilesDirectory: string | undefined
  otlpLogs: boolean
  flushTimeoutMs: number
}

/** Fills in defaults and refuses what cannot work. @throws {TypeError} naming the option and its value. */
export function resolveOptions(options: ThroughlineOptions, env: NodeJS.ProcessEnv = process.env): Settings {
  return {
    serviceName: options.serviceName ?? serviceNameFrom(env) ?? 'next-app',
    correlationHeaders: correlationHeadersOf(options),
    propagateTo: propagateToOf(options),
    idempotencyKeys: listOf('idempotencyKeys', options.idempotencyKeys) ?? DEFAULT_KEY_PATTERNS,
    raceStore: raceStoreOf(options),
    sqlComments: options.sqlComments ?? true,
    sqlApplicationName: options.sqlApplicationName ?? false,
    nextInternals: options.nextInternals ?? false,
    requestLog: options.requestLog ?? true,
    logLevel: logLevelOf(options),
    localFilesDirectory:
      (options.localFiles ?? isLocalByDefault(env)) ? localDirectory(env, process.cwd()) : undefined,
    otlpLogs: options.otlpLogs ?? isOtlpLogsByDefault(env),
    flushTimeoutMs: flushTimeoutOf(options),
  }
}

// The SDK lets the option win over both variables, so they are read here.
function serviceNameFrom(env: NodeJS.ProcessEnv): string | undefined {
  if (env.OTEL_SERVICE_NAME) return env.OTEL_SERVICE_NAME
  const encoded = /(?:^|,)\s*service\.name\s*=\s*([^,]+)/
    .exec(env.OTEL_RESOURCE_ATTRIBUTES ?? '')?.[1]
    ?.trim()
  try {
    return encoded === undefined ? undefined : decodeURIComponent(encoded)
  } catch {
    return encoded
  }
}

function correlationHeadersOf({ correlationHeaders }: ThroughlineOptions): Settings['correlationHeaders'] {
  const [first, ...others] = listOf('correlationHeaders', correlationHeaders) ?? [DEFAULT_CORRELATION_HEADER]
  if (first === undefined) throw refused('correlationHeaders', 'name a header', [])
  for (const header of [first, ...others]) {
    if (!/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(header))
      throw refused('correlationHeaders', 'hold lower-case header names', header)
  }
  return [first, ...others]
}

function propagateToOf({ propagateTo }: ThroughlineOptions): Settings['propagateTo'] {
  const hosts = listOf('propagateTo', propagateTo) ?? []
  for (const host of hosts) {
    if (typeof host === 'string' && /[/\s]/.test(host))
      throw refused('propagateTo', 'hold hosts, without scheme or path', host)
  }
  return hosts
}

function raceStoreOf({ raceStore }: ThroughlineOptions): Settings['raceStore'] {
  if (raceStore === undefined || typeof raceStore?.eval === 'function') return raceStore
  throw refused('raceStore', 'be a client of ioredis, redis or @upstash/redis', typeof raceStore)
}

function logLevelOf({ logLevel }: ThroughlineOptions): string | undefined {
  if (logLevel === undefined || LOG_LEVELS.includes(logLevel)) return logLevel
  throw refused('logLevel', `be one of ${LOG_LEVELS.join(', ')}`, logLevel)
}

/** What a timer of Node's can hold. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

function flushTimeoutOf({ flushTimeoutMs = 5000 }: ThroughlineOptions): number {
  if (typeof flushTimeoutMs === 'number' && flushTimeoutMs >= 0 && flushTimeoutMs <= MAX_TIMEOUT_MS)
    return flushTimeoutMs
  throw refused('flushTimeoutMs', `be a number of milliseconds up to ${MAX_TIMEOUT_MS}`, flushTimeoutMs)
}

function listOf<T>(option: string, value: readonly T[] | undefined): readonly T[] | undefined {
  if (value === undefined || Array.isArray(value)) return value
  throw refused(option, 'be a list', value)
}

function refused(option: string, must: string, received: unknown): TypeError {
  const shown = typeof received === 'number' ? String(received) : JSON.stringify(received)
  return new TypeError(`throughline: "${option}" must ${must}, received ${shown}.`)
}

function isLocalByDefault(env: NodeJS.ProcessEnv): boolean {
  if (env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return false
  // Someone who chose an exporter chose where spans go.
  if (env.OTEL_TRACES_EXPORTER) return false
  // Spelled out, because Next replaces it by its value when it builds.
  return process.env.NODE_ENV !== 'production' || Boolean(env.THROUGHLINE_DIR)
}

function isOtlpLogsByDefault(env: NodeJS.ProcessEnv): boolean {
  const exporters = env.OTEL_LOGS_EXPORTER?.trim()
  if (exporters) return !exporters.split(',').some((exporter) => exporter.trim() === 'none')
  return Boolean(env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT)
}
