/** A provider that keeps nothing: spans are made, batched and counted, and what exporting them costs is left out. */
import { type TracerProvider, trace } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'

export interface SpanCounts {
  /** Spans that were asked for, recorded or not. */
  started: number
  exported: number
}

export interface CountedSpans {
  /** Runs `body`, and counts the spans of it. */
  countOf(body: () => Promise<unknown>): Promise<SpanCounts>
}

export interface ProviderOptions {
  isSampled: boolean
  /** Default the SDK's own. */
  idGenerator?: tracing.IdGenerator
  /** Stands between the API and the provider. */
  decorate?(provider: TracerProvider): TracerProvider
}

/** Registers the provider. Its sampler is the one that SDKs have by default, or the same with nothing sampled. */
export function registerProvider({
  isSampled,
  idGenerator,
  decorate = (provider) => provider,
}: ProviderOptions): CountedSpans {
  const counts: SpanCounts = { started: 0, exported: 0 }
  const provider = new node.NodeTracerProvider({
    sampler: countingSampler(isSampled, counts),
    spanProcessors: [new tracing.BatchSpanProcessor(countingExporter(counts))],
    ...(idGenerator === undefined ? {} : { idGenerator }),
  })
  provider.register()
  // The API keeps the first one.
  trace.disable()
  trace.setGlobalTracerProvider(decorate(provider))
  return {
    async countOf(body) {
      await provider.forceFlush()
      const before = { ...counts }
      await body()
      await provider.forceFlush()
      return { started: counts.started - before.started, exported: counts.exported - before.exported }
    },
  }
}

function countingSampler(isSampled: boolean, counts: SpanCounts): tracing.Sampler {
  const root = isSampled ? new tracing.AlwaysOnSampler() : new tracing.AlwaysOffSampler()
  const sampler = new tracing.ParentBasedSampler({ root })
  return {
    shouldSample(...args) {
      counts.started += 1
      return sampler.shouldSample(...args)
    },
    toString: () => `Counting{${sampler}}`,
  }
}

function countingExporter(counts: SpanCounts): tracing.SpanExporter {
  return {
    export(spans, done) {
      counts.exported += spans.length
      done({ code: 0 })
    },
    shutdown: async () => {},
  }
}
