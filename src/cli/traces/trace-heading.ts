/** The line above one trace of several. */
import { formatDuration } from '../terminal/durations.js'
import { paint, type Segment } from '../terminal/paint.js'
import type { Terminal } from '../terminal/terminal.js'

/** `trace 4bf9…  5.00 s later`: whole, for the ID is there to be pasted. */
export function traceHeading(
  traceId: string | undefined,
  startTimeMs: number | undefined,
  /** The start of what was asked for. */
  fromTimeMs: number | undefined,
  terminal: Terminal,
): string {
  const { colors } = terminal
  const segments: Segment[] = [
    { text: traceId === undefined ? 'no trace' : `trace ${traceId}`, style: colors.underline },
    { text: distanceText(startTimeMs, fromTimeMs), style: colors.dim },
  ]
  return paint(segments, Number.POSITIVE_INFINITY, terminal).text
}

function distanceText(startTimeMs: number | undefined, fromTimeMs: number | undefined): string {
  // Without a time of anything in it, a trace starts at 0.
  if (!startTimeMs || !fromTimeMs || startTimeMs === fromTimeMs) return ''
  const laterMs = startTimeMs - fromTimeMs
  return `  ${formatDuration(Math.abs(laterMs))} ${laterMs > 0 ? 'later' : 'before'}`
}
