/**
 * Runs code as a request of the app, in this process, and hands back the spans it left: for tests of what clients
 * show. Call `recordSpans()` once per test file.
 */
import { trace } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'
import { createContext, type RequestContext, randomTraceId, runInContext } from '../../src/context/index.ts'
import { correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'

export type Span = tracing.ReadableSpan

export interface SpanRecorder {
  /** Runs `body` as a request of that ID, under a span named `request`, and returns the spans of its calls. */
  spansOf(correlationId: string, body: (request: RequestContext) => Promise<unknown>): Promise<Span[]>
  /** The same for requests that run at once: their spans are `taken` together. */
  inRequest(correlationId: string, body: (request: RequestContext) => Promise<unknown>): Promise<void>
  /** The span named `request` of the last one. */
  requestSpan(): Span
  /** All spans since the last call of `spansOf`, or of this. */
  taken(): Span[]
}

/** Registers a provider for the test file's process. */
export function recordSpans(): SpanRecorder {
  const exporter = new tracing.InMemorySpanExporter()
  const provider = new node.NodeTracerProvider({
    spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
  })
  provider.register()
  const finished = () => exporter.getFinishedSpans()
  const inRequest: SpanRecorder['inRequest'] = (correlationId, body) => {
    const request = createContext({ correlationId, traceId: randomTraceId() })
    return runInContext(request, () =>
      trace.getTracer('test').startActiveSpan('request', async (span) => {
        try {
          await body(request)
        } finally {
          span.end()
        }
      }),
    )
  }
  return {
    inRequest,
    async spansOf(correlationId, body) {
      exporter.reset()
      await inRequest(correlationId, body)
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
