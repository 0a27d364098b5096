/**
 * The three pieces an OpenTelemetry SDK needs from us, for people who set up their own. They are structural
 * (no SDK is imported), so they fit the 2.x and the 3.x line alike.
 */
import {
  type Context,
  isSpanContextValid,
  type Span,
  type SpanContext,
  type TextMapGetter,
  type TextMapPropagator,
  type TextMapSetter,
  trace,
} from '@opentelemetry/api'
import { DEFAULT_CORRELATION_HEADER, randomSpanId, randomTraceId, tryGetContext } from '../context/index.js'
import { adoptSpan } from './request-span.js'

/** An SDK `IdGenerator`: the request's own trace ID for spans without a parent, random IDs elsewhere. */
export function correlationIdGenerator(): { generateTraceId(): string; generateSpanId(): string } {
  return {
    generateTraceId: () => tryGetContext()?.traceId ?? randomTraceId(),
    generateSpanId: randomSpanId,
  }
}

/** An SDK `SpanProcessor` that puts `correlation.id` on every span. Place it before the exporting one. */
export function correlationSpanProcessor(): {
  onStart(span: Span, parentContext: Context): void
  onEnd(): void
  forceFlush(): Promise<void>
  shutdown(): Promise<void>
} {
  return {
    onStart: (span) => adoptSpan(span),
    onEnd: () => {},
    forceFlush: () => Promise.resolve(),
    shutdown: () => Promise.resolve(),
  }
}

/**
 * A propagator that adds the correlation header to what is injected. Combine it with W3C trace context;
 * it extracts nothing, because the ID of an incoming request is decided before any span exists.
 */
export function correlationPropagator(header: string = DEFAULT_CORRELATION_HEADER): TextMapPropagator {
  return {
    inject(_context: Context, carrier: unknown, setter: TextMapSetter) {
      const correlationId = tryGetContext()?.correlationId
      if (correlationId !== undefined) setter.set(carrier, header, correlationId)
    },
    extract: (context: Context, _carrier: unknown, _getter: TextMapGetter) => context,
    fields: () => [header],
  }
}

/** The `traceparent` of a span, or undefined when it has no valid IDs. */
export function traceparentOf(span: Span | undefined = trace.getActiveSpan()): string | undefined {
  const spanContext = span?.spanContext()
  if (spanContext === undefined || !isSpanContextValid(spanContext)) return undefined
  const flags = spanContext.traceFlags.toString(16).padStart(2, '0')
  return `00-${spanContext.traceId}-${spanContext.spanId}-${flags}`
}

/** The span that a `traceparent` names, or undefined for anything else: it may have been written by other code. */
export function spanContextOf(traceparent: unknown): SpanContext | undefined {
  if (typeof traceparent !== 'string') return undefined
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent)
  if (match === null) return undefined
  const [, traceId = '', spanId = '', flags = ''] = match
  const spanContext = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true }
  return isSpanContextValid(spanContext) ? spanContext : undefined
}
