/** `action(name, fn)`: a Server Action with a span, an outcome and one log line. */
import { type Span, trace } from '@opentelemetry/api'
import { tryGetContext } from '../context/index.js'
import { logger } from '../logging/index.js'
import { showError } from '../logging/show-error.js'
import { recordSeconds } from '../telemetry/meter.js'
import { ATTRIBUTE, METRIC, SCOPE } from '../telemetry/names.js'
import { type ActionOutcome, outcomeOfThrown } from './control-flow.js'
import { ensureContext, nextHeaders } from './ensure-context.js'

/**
 * Wraps a Server Action; its signature stays as it is. Control flow (`redirect()`, `notFound()`, …) is
 * rethrown and is no error: the span says `action.outcome: redirect`.
 *
 * @param name what the span, the log line and the metric call it: low cardinality, no user data
 * @example
 * 'use server'
 * export const createOrder = action('createOrder', async (form: FormData) => { … })
 */
export function action<Args extends unknown[], Result>(
  name: string,
  fn: (...args: Args) => Promise<Result>,
): (...args: Args) => Promise<Result> {
  assertName(name)
  return (...args) => ensureContext(nextHeaders, () => runAction(name, () => fn(...args)))
}

/** Runs a body as the named action, in the active context. */
export function runAction<Result>(name: string, body: (span: Span) => Promise<Result>): Promise<Result> {
  const requestContext = tryGetContext()
  // The request is named after the action that it calls, not after those that this one calls.
  const isOutermost = requestContext !== undefined && requestContext.isActionRunning !== true
  if (isOutermost) {
    requestContext.isActionRunning = true
    requestContext.action = { ...requestContext.action, name }
    requestContext.firstSpan?.setAttribute(ATTRIBUTE.actionName, name)
  }
  const startedAt = performance.now()
  const attributes = { [ATTRIBUTE.actionName]: name }
  return trace.getTracer(SCOPE).startActiveSpan(`action ${name}`, { attributes }, async (span) => {
    let outcome: ActionOutcome = 'ok'
    let error: unknown
    try {
      return await body(span)
    } catch (thrown) {
      outcome = outcomeOfThrown(thrown)
      if (outcome === 'error') error = thrown
      throw thrown
    } finally {
      finish(span, name, outcome, performance.now() - startedAt, error)
      if (isOutermost) {
        requestContext.isActionRunning = false
        requestContext.firstSpan?.setAttribute(ATTRIBUTE.actionOutcome, outcome)
      }
    }
  })
}

function finish(span: Span, name: string, outcome: ActionOutcome, durationMs: number, error: unknown): void {
  span.setAttribute(ATTRIBUTE.actionOutcome, outcome)
  const line = { action: name, outcome, duration_ms: Math.round(durationMs * 100) / 100 }
  if (outcome === 'error') {
    showError(span, error)
    logger.error({ ...line, err: error }, 'action failed')
  } else {
    logger.info(line, 'action completed')
  }
  recordSeconds(METRIC.actionDuration, durationMs / 1000, { action: name, outcome })
  span.end()
}

/** @throws {TypeError} for a name that would not do as a span name and a metric label. */
export function assertName(name: unknown): asserts name is string {
  if (typeof name === 'string' && /^[A-Za-z0-9_.:/-]{1,100}$/.test(name)) return
  throw new TypeError(
    `action: "name" must be 1–100 characters of A-Z a-z 0-9 _ . : / -, received ${JSON.stringify(name)}.`,
  )
}
