/**
 * The OpenTelemetry SDK: the one already registered, else `@opentelemetry/sdk-node`, else `@vercel/otel`
 * (the other way round on Vercel). None is a hard dependency; without one, IDs and log lines still work.
 */
import { DiagLogLevel, diag, ProxyTracerProvider, type TracerProvider, trace } from '@opentelemetry/api'
import type { NodeSDK } from '@opentelemetry/sdk-node'
import { logger } from '../src/logging/index.js'
import { correlationIdGenerator } from '../src/telemetry/sdk-pieces.js'
import { SpanFileExporter } from './local-files/span-file-exporter.js'
import type { Settings } from './options.js'
import { correlateProvider } from './tracer-provider.js'

/** A running SDK. */
export interface Sdk {
  /** Exports what has ended so far. */
  flush(): Promise<void>
}

/** Starts or adopts an SDK. Returns undefined, after one warning, when none is installed. */
export async function startSdk(settings: Settings): Promise<Sdk | undefined> {
  warnOnceOnExportFailure()
  if (registeredProvider() === undefined) {
    const starters = process.env.VERCEL ? [startVercelOtel, startNodeSdk] : [startNodeSdk, startVercelOtel]
    let isStarted = false
    for (const start of starters) {
      isStarted = await start(settings)
      if (isStarted) break
    }
    if (!isStarted) {
      logger.warn(
        'throughline: no spans are recorded, because no OpenTelemetry SDK is installed. ' +
          'Mend it with: npm install @opentelemetry/sdk-node',
      )
      return undefined
    }
  }
  const provider = registeredProvider()
  // OTEL_SDK_DISABLED=true, or OTEL_TRACES_EXPORTER=none: the SDK registered nothing, on purpose.
  if (provider === undefined) return undefined
  const proxy = trace.getTracerProvider()
  if (proxy instanceof Object && 'setDelegate' in proxy) {
    ;(proxy as ProxyTracerProvider).setDelegate(correlateProvider(provider, settings))
  }
  return { flush: () => flushProvider(provider) }
}

/**
 * The provider behind the API's proxy, or undefined while there is only the built-in no-op. That one is
 * told by identity: Next minifies class names in its server bundles.
 */
function registeredProvider(): TracerProvider | undefined {
  const proxy = trace.getTracerProvider()
  const provider = 'getDelegate' in proxy ? (proxy as ProxyTracerProvider).getDelegate() : proxy
  const noop = new ProxyTracerProvider().getDelegate()
  return provider === noop ? undefined : provider
}

async function startNodeSdk(settings: Settings): Promise<boolean> {
  let Sdk: typeof NodeSDK
  try {
    Sdk = (await import('@opentelemetry/sdk-node')).NodeSDK
  } catch {
    return false
  }
  // The SDK holds spans back for 5 s by default; whoever reads local files is waiting for them.
  if (settings.localFilesDirectory !== undefined) process.env.OTEL_BSP_SCHEDULE_DELAY ??= '500'
  const sdk = new Sdk({
    serviceName: settings.serviceName,
    idGenerator: correlationIdGenerator(),
    // Without an exporter of ours, the SDK reads OTEL_TRACES_EXPORTER and the OTLP variables.
    ...(settings.localFilesDirectory === undefined
      ? {}
      : {
          traceExporter: new SpanFileExporter(settings.localFilesDirectory),
          metricReaders: [],
          ...(settings.otlpLogs ? {} : { logRecordProcessors: [] }),
        }),
  })
  sdk.start()
  return true
}

async function startVercelOtel(settings: Settings): Promise<boolean> {
  let vercel: typeof import('@vercel/otel')
  try {
    vercel = await import('@vercel/otel')
  } catch {
    return false
  }
  vercel.registerOTel({
    serviceName: settings.serviceName,
    idGenerator: correlationIdGenerator(),
    ...(settings.localFilesDirectory === undefined
      ? {}
      : { traceExporter: new SpanFileExporter(settings.localFilesDirectory) }),
  })
  return true
}

async function flushProvider(provider: TracerProvider): Promise<void> {
  const { forceFlush } = provider as { forceFlush?: () => Promise<void> }
  await forceFlush?.call(provider)
}

// The SDK reports a failed export through the API's diagnostic logger, which is silent by default. With a
// collector down that is one report per batch: the first is worth a line, the rest are not.
function warnOnceOnExportFailure(): void {
  if (process.env.OTEL_LOG_LEVEL) return
  let isReported = false
  const silent = () => {}
  diag.setLogger(
    {
      error(message) {
        if (isReported) return
        isReported = true
        logger.warn(
          { detail: String(message).slice(0, 300) },
          'throughline: telemetry could not be exported. The app serves as before; what was to be exported is lost ' +
            'until the collector answers. Check OTEL_EXPORTER_OTLP_ENDPOINT; where it takes traces alone, as Jaeger ' +
            'does, set OTEL_LOGS_EXPORTER=none and OTEL_METRICS_EXPORTER=none. Later failures are not repeated here.',
        )
      },
      warn: silent,
      info: silent,
      debug: silent,
      verbose: silent,
    },
    { logLevel: DiagLogLevel.ERROR, suppressOverrideMessage: true },
  )
}
