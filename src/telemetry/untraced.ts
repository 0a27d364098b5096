/** Work that belongs to no request and would bury those that do: polls of a queue, upkeep on a timer. */
import { context, createContextKey } from '@opentelemetry/api'

/**
 * The key by which every SDK of OpenTelemetry knows that nothing is to be recorded. Its name is the SDK's
 * (`suppressTracing` of `@opentelemetry/core`); keys of one name are the same.
 */
const SUPPRESS_TRACING = createContextKey('OpenTelemetry SDK Context Key SUPPRESS_TRACING')

/** Runs `fn`, and all that it starts, without spans. */
export function untraced<T>(fn: () => T): T {
  return context.with(context.active().setValue(SUPPRESS_TRACING, true), fn)
}

/** True where nothing is recorded. */
export function isUntraced(): boolean {
  return context.active().getValue(SUPPRESS_TRACING) === true
}
