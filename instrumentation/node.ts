/** The Node runtime: everything `register()` sets up, in the order it must happen. */

import { traceMysql2 } from '../src/clients/database/mysql2-channels.js'
import { traceUndici } from '../src/clients/http/undici.js'
import { traceIoredis } from '../src/clients/kv/ioredis-channels.js'
import { compileKeyPatterns } from '../src/clients/kv/key-patterns.js'
import { traceNodeRedis } from '../src/clients/kv/node-redis-channels.js'
import { hookDatabaseClients } from '../src/clients/require-hooks.js'
import { setClientSettings } from '../src/clients/settings.js'
import { processWide } from '../src/context/index.js'
import { logger, setLoggingDefaults } from '../src/logging/logger.js'
import { addLogSink, flushLogSinks } from '../src/logging/sinks.js'
import { hookHttpServer } from './http-server.js'
import { createLogFile } from './local-files/log-file.js'
import { resolveOptions, type ThroughlineOptions } from './options.js'
import { createOtlpLogs } from './otlp-logs.js'
import { startPrismaInstrumentation } from './prisma.js'
import { startSdk } from './sdk.js'
import { flushOnShutdown } from './shutdown.js'

/** Sets up a Node process. Calls after the first return the first one's promise. */
export function registerNode(options: ThroughlineOptions): Promise<void> {
  return processWide('instrumentation.registration', () => setUp(options))
}

async function setUp(options: ThroughlineOptions): Promise<void> {
  const settings = resolveOptions(options)
  setLoggingDefaults({
    service: settings.serviceName,
    ...(settings.logLevel === undefined ? {} : { level: settings.logLevel }),
  })
  if (settings.localFilesDirectory !== undefined) addLogSink(createLogFile(settings.localFilesDirectory))

  const sdk = await startSdk(settings)
  const otlpLogs = settings.otlpLogs ? createOtlpLogs(settings.serviceName) : undefined
  if (otlpLogs !== undefined) addLogSink(otlpLogs)
  else if (options.otlpLogs === true) {
    logger.warn('throughline: otlpLogs is on, but no logger provider of an OpenTelemetry SDK is registered.')
  }
  setClientSettings({
    sqlComments: settings.sqlComments,
    sqlApplicationName: settings.sqlApplicationName,
    idempotencyKeys: settings.idempotencyKeys,
    raceStore: settings.raceStore,
  })
  hookDatabaseClients()
  traceMysql2()
  await startPrismaInstrumentation()
  const isIdempotencyKey = compileKeyPatterns(settings.idempotencyKeys)
  traceIoredis(isIdempotencyKey)
  traceNodeRedis(isIdempotencyKey)
  traceUndici({ correlationHeader: settings.correlationHeaders[0], propagateTo: settings.propagateTo })
  hookHttpServer(settings)
  flushOnShutdown(async () => {
    await Promise.all([flushLogSinks(), sdk?.flush(), otlpLogs?.exportNow()])
  }, settings.flushTimeoutMs)
}
