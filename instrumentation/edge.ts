/** The edge runtime: `@vercel/otel` when it is installed. IDs come from `withCorrelation` in proxy.ts there. */
import { correlationIdGenerator } from '../src/telemetry/sdk-pieces.js'
import type { ThroughlineOptions } from './options.js'

export async function registerEdge(options: ThroughlineOptions): Promise<void> {
  try {
    const { registerOTel } = await import('@vercel/otel')
    registerOTel({
      ...(options.serviceName === undefined ? {} : { serviceName: options.serviceName }),
      idGenerator: correlationIdGenerator(),
    })
  } catch {
    // Not installed: requests on edge have their ID, but no spans.
  }
}
