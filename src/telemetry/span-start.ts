/**
 * Starts of a request's spans that agree with each other. The SDK takes a start from `Date.now()`, which knows whole
 * milliseconds, and the end from the start and a fine clock: a child may then begin before its parent, or outlast it,
 * which Jaeger shows as a skew of clocks, and two spans of one millisecond stand in any order.
 */
import type { HrTime, Span } from '@opentelemetry/api'
import type { RequestContext } from '../context/index.js'

/** What a recording span of the SDK's has beside the interface (sdk-trace 2.x and 3.x, `Span.ts`). */
interface RecordingSpan {
  startTime?: HrTime
  /** True where whoever started it said when. */
  _startTimeProvided?: boolean
  /** Its start on the fine clock: the end is so much later than `startTime` as that clock has gone on from here. */
  _performanceStartTime?: number
}

/** The fine clock's distance is added to the start of the request's first span. A span of another kind is left alone. */
export function alignStart(span: Span, requestContext: RequestContext): void {
  const recording = span as RecordingSpan
  const { _startTimeProvided: isProvided, _performanceStartTime: nowMs } = recording
  if (!Array.isArray(recording.startTime) || isProvided !== false || nowMs === undefined) return
  requestContext.clock ??= { epochMs: epochMsOf(recording.startTime), nowMs }
  const { clock } = requestContext
  recording.startTime = hrTimeOf(clock.epochMs + (nowMs - clock.nowMs))
}

function epochMsOf([seconds, nanoseconds]: HrTime): number {
  return seconds * 1e3 + nanoseconds / 1e6
}

function hrTimeOf(epochMs: number): HrTime {
  const seconds = Math.floor(epochMs / 1e3)
  return [seconds, Math.floor((epochMs - seconds * 1e3) * 1e6)]
}
