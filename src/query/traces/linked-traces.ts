/** Follows the links of found traces, in both directions, from step to step. */

import type { StoredLog } from '../logs/log-files.js'
import type { FoundTrace } from './find-trace.js'
import type { StoredSpan } from './span-files.js'
import { type LinkedTraceId, neighboursOf } from './trace-links.js'
import { logsOfTraces, MAX_SPANS, spansOfTraces, type TraceLimits } from './traces-by-id.js'

/** A trace that links lead to. */
export interface LinkedTrace extends LinkedTraceId {
  /** Steps from what was asked for. */
  distance: number
  /** By start time. None when the trace is not in the files. */
  spans: StoredSpan[]
  /** By time. */
  logs: StoredLog[]
}

/** Where links lead. */
export interface LinkedTraces {
  /** Each once: by distance, then by start time; last in a step those that are not in the files. */
  linked: LinkedTrace[]
  /** Linked traces beyond the bounds, at least so many. */
  leftOut: number
  isTruncated: boolean
  unreadableLines: number
}

/** Most traces that are shown beside those asked for. */
export const MAX_LINKED = 20

/** Steps from what was asked for: a request, its message, the attempt after, what that sent. */
export const MAX_STEPS = 3

/**
 * One pass over the span files for each step, which finds the next one too, and one over the log files.
 *
 * @param limits of all linked traces together
 */
export async function followLinks(
  directory: string,
  found: Pick<FoundTrace, 'traceIds' | 'links'>,
  limits: TraceLimits = {},
): Promise<LinkedTraces> {
  const { maxSpans = MAX_SPANS } = limits
  const seen = new Set(found.traceIds)
  const isNew = ({ traceId }: LinkedTraceId) => !seen.has(traceId)
  const linked: LinkedTrace[] = []
  const result: LinkedTraces = { linked, leftOut: 0, isTruncated: false, unreadableLines: 0 }
  const add = (read: Pick<LinkedTraces, 'isTruncated' | 'unreadableLines'>) => {
    result.isTruncated ||= read.isTruncated
    result.unreadableLines += read.unreadableLines
  }
  let next = found.links
  let spansLeft = maxSpans
  for (let distance = 1; distance <= MAX_STEPS && next.length > 0; distance += 1) {
    const step = next.slice(0, MAX_LINKED - linked.length)
    result.leftOut += next.length - step.length
    for (const { traceId } of next) seen.add(traceId)
    const { spans, inbound, ...read } = await spansOfTraces(directory, idsOf(step), { maxSpans: spansLeft })
    add(read)
    spansLeft -= spans.length
    linked.push(...step.map((trace) => ({ ...trace, distance, ...partOf(trace, spans, []) })).sort(byStart))
    next = neighboursOf(spans, inbound).filter(isNew)
  }
  result.leftOut += next.length
  const { logs, ...read } = await logsOfTraces(directory, idsOf(linked), limits)
  add(read)
  return { ...result, linked: linked.map((trace) => ({ ...trace, ...partOf(trace, trace.spans, logs) })) }
}

function idsOf(traces: readonly LinkedTraceId[]): Set<string> {
  return new Set(traces.map(({ traceId }) => traceId))
}

function partOf(
  { traceId }: LinkedTraceId,
  spans: readonly StoredSpan[],
  logs: readonly StoredLog[],
): Pick<LinkedTrace, 'spans' | 'logs'> {
  const isOf = (item: StoredSpan | StoredLog) => item.traceId === traceId
  return { spans: spans.filter(isOf), logs: logs.filter(isOf) }
}

function byStart(a: LinkedTrace, b: LinkedTrace): number {
  const startOf = ({ spans }: LinkedTrace) => spans[0]?.startTimeMs ?? Number.MAX_VALUE
  return startOf(a) - startOf(b)
}
