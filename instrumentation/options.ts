/** What a user can set, and what it becomes when they do not. */
import { DEFAULT_KEY_PATTERNS } from '../src/clients/kv/key-patterns.js'
import { DEFAULT_CORRELATION_HEADER } from '../src/context/index.js'
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
  /** KV keys that are idempotency keys of a hand-written recipe. `*` stands for anything. Default `['idempotency:*']`. */
  idempotencyKeys?: readonly string[]
  /** Append `correlation_id` and `traceparent` to SQL statements. Default true. */
  sqlComments?: boolean
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
  /** Longest time to flush spans at shutdown, in milliseconds. Default 5000. */
  flushTimeoutMs?: number
}

/** Options with every default filled in. */
export interface Settings {
  serviceName: string
  correlationHeaders: readonly [string, ...string[]]
  propagateTo: readonly (string | RegExp)[]
  idempotencyKeys: readonly string[]
  sqlComments: boolean
  nextInternals: boolean
  requestLog: boolean
  logLevel: string | undefined
  /** Absolute path of the directory for spans and log lines; undefined when local files are off. */
  localFilesDirectory: string | undefined
  flushTimeoutMs: number
}

/** Fills in defaults and refuses what cannot work. @throws {TypeError} naming the option and its value. */
export function resolveOptions(options: ThroughlineOptions, env: NodeJS.ProcessEnv = process.env): Settings {
  const [firstHeader, ...otherHeaders] = options.correlationHeaders ?? [DEFAULT_CORRELATION_HEADER]
  if (firstHeader === undefined)
    throw new TypeError('throughline: "correlationHeaders" must name a header, received [].')
  for (const header of [firstHeader, ...otherHeaders]) {
    if (!/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(header)) {
      throw new TypeError(
        `throughline: "correlationHeaders" must hold lower-case header names, received ${JSON.stringify(header)}.`,
      )
    }
  }
  const flushTimeoutMs = options.flushTimeoutMs ?? 5000
  if (!Number.isFinite(flushTimeoutMs) || flushTimeoutMs < 0) {
    throw new TypeError(
      `throughline: "flushTimeoutMs" must be a number of milliseconds, received ${flushTimeoutMs}.`,
    )
  }
  return {
    serviceName: options.serviceName ?? (env.OTEL_SERVICE_NAME || 'next-app'),
    correlationHeaders: [firstHeader, ...otherHeaders],
    propagateTo: options.propagateTo ?? [],
    idempotencyKeys: options.idempotencyKeys ?? DEFAULT_KEY_PATTERNS,
    sqlComments: options.sqlComments ?? true,
    nextInternals: options.nextInternals ?? false,
    requestLog: options.requestLog ?? true,
    logLevel: options.logLevel,
    localFilesDirectory:
      (options.localFiles ?? isLocalByDefault(env)) ? localDirectory(env, process.cwd()) : undefined,
    flushTimeoutMs,
  }
}

function isLocalByDefault(env: NodeJS.ProcessEnv): boolean {
  if (env.OTEL_EXPORTER_OTLP_ENDPOINT || env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) return false
  // Someone who chose an exporter chose where spans go.
  if (env.OTEL_TRACES_EXPORTER) return false
  return process.env.NODE_ENV !== 'production' || Boolean(env.THROUGHLINE_DIR)
}
