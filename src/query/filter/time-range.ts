/** The times that a filter asks for, where it names any: what a store of logs need not look beyond. Pure. */
import { type Filter, TIME_FIELD } from './ast.js'
import { type Bounds, boundsOf, type Leaf } from './bounds.js'
import { isField, rankOf } from './ranks.js'

/** Epoch milliseconds, both ends within. */
export interface TimeRange {
  /** Default: no beginning. */
  sinceMs?: number | undefined
  /** Default: no end. */
  untilMs?: number | undefined
}

/** No line that the filter finds has a `time` outside it. */
export function timeRangeOf(filter: Filter): TimeRange {
  return boundsOf(filter, rangeOfLeaf, { and: overlapOf, or: hullOf }).holds ?? {}
}

/** Both of two ranges; one that begins after its end has no line in it. */
export function overlapOf(left: TimeRange, right: TimeRange): TimeRange {
  return {
    sinceMs: chosen(left.sinceMs, right.sinceMs, Math.max),
    untilMs: chosen(left.untilMs, right.untilMs, Math.min),
  }
}

function hullOf(left: TimeRange, right: TimeRange): TimeRange {
  const isOpen = (end: keyof TimeRange) => left[end] === undefined || right[end] === undefined
  return {
    sinceMs: isOpen('sinceMs') ? undefined : chosen(left.sinceMs, right.sinceMs, Math.min),
    untilMs: isOpen('untilMs') ? undefined : chosen(left.untilMs, right.untilMs, Math.max),
  }
}

function chosen(
  left: number | undefined,
  right: number | undefined,
  choose: (...of: number[]) => number,
): number | undefined {
  const given = [left, right].filter((end) => end !== undefined)
  return given.length === 0 ? undefined : choose(...given)
}

// A line may have no time, so nothing is known of those that fail.
function rangeOfLeaf(leaf: Leaf): Bounds<TimeRange> {
  if (leaf.kind === 'exists' || !isField(leaf.field, TIME_FIELD))
    return { holds: undefined, fails: undefined }
  const ms = rankOf(leaf.field, leaf.value)
  if (typeof ms !== 'number') return { holds: undefined, fails: undefined }
  switch (leaf.comparison) {
    case '=':
      return { holds: { sinceMs: ms, untilMs: ms }, fails: undefined }
    case '>':
    case '>=':
      return { holds: { sinceMs: ms }, fails: undefined }
    case '<':
    case '<=':
      return { holds: { untilMs: ms }, fails: undefined }
    default:
      return { holds: undefined, fails: undefined }
  }
}
