/**
 * Runs code as a request of the app, in this process, and hands back the spans it left: for tests of what clients
 * show. Call `recordSpans()` once per test file.
 */
import { context, trace } from '@opentelemetry/api'
import { contextBase, tracing } from '@opentelemetry/sdk-node'
import { afterAll, beforeAll } from 'vitest'
import { correlateProvider } from '../../instrumentation/tracer-provider.ts'
import { createContext, type RequestContext, runInContext } from '../../src/context/index.ts'

export type Span = tracing.ReadableSpan

export interface SpanRecorder {
  /** Runs `body` as a request of that ID, under a span named `request`, and returns the spans of its calls. */
  spansOf(correlationId: string, body: (request: RequestContext) => Promise<unknown>): Promise<Span[]>
  /** The span named `request` of the last one. */
  requestSpan(): Span
  /** All spans since the last call of `spansOf`, or of this. */
  taken(): Span[]
}

/** Registers a provider for the file, and takes it back at its end. */
export function recordSpans(): SpanRecorder {
  const exporter = new tracing.InMemorySpanExporter()
  const provider = new tracing.BasicTracerProvider({
    spanProcessors: [new tracing.SimpleSpanProcessor(exporter)],
  })
  beforeAll(() => {
    context.setGlobalContextManager(new contextBase.AsyncLocalStorageContextManager().enable())
    trace.setGlobalTracerProvider(correlateProvider(provider, { nextInternals: false }))
  })
  afterAll(() => {
    trace.disable()
    context.disable()
  })
  const finished = () => exporter.getFinishedSpans()
  return {
    async spansOf(correlationId, body) {
      exporter.reset()
      const request = createContext({ correlationId, traceId: 'a'.repeat(32) })
      await runInContext(request, () =>
        trace.getTracer('test').startActiveSpan('request', async (span) => {
          try {
            await body(request)
          } finally {
            span.end()
          }
        }),
      )
      return finished().filter((span) => span.name !== 'request')
    },
    requestSpan() {
      const span = finished().find((candidate) => candidate.name === 'request')
      if (span === undefined) throw new Error('The request has no span.')
      return span
    },
    taken() {
      const spans = finished()
      exporter.reset()
      return spans
    },
  }
}

/** All that an exporter would write of a span. */
export function written({ name, attributes, events, links, status }: Span): string {
  return JSON.stringify({ name, attributes, events, links, status })
}
