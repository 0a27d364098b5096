/** Spans and log lines as the tree that a reader wants: what called what, in time. Pure. */
import type { StoredLog } from '../logs/log-files.js'
import type { StoredSpan } from './span-files.js'

/** A span, and what happened inside it. */
export interface SpanNode {
  kind: 'span'
  span: StoredSpan
  /** True when the span names a parent of this process that is not among the spans. */
  isOrphan: boolean
  parent?: SpanNode
  /** Child spans and log lines, by time. */
  items: TraceItem[]
}

export interface LogNode {
  kind: 'log'
  log: StoredLog
}

export type TraceItem = SpanNode | LogNode

/** One trace: its roots, of which there may be several, and log lines that belong to no span. */
export interface TraceTree {
  /** Absent when there are only log lines that name no trace. */
  traceId?: string
  items: TraceItem[]
  /** First start to last end of its spans, or of its log lines when there are none. */
  startTimeMs: number
  durationMs: number
}

/**
 * One tree per trace, by start time. Every span and every log line is in exactly one place, whatever the
 * parent pointers say: a cycle is cut, a missing parent makes a root.
 *
 * A log line lies under its span; when that span is not there, under the root of its trace, or beside the spans when
 * the root is not there either. One that names no trace belongs to the one that had begun last.
 */
export function buildTraceTrees(spans: readonly StoredSpan[], logs: readonly StoredLog[]): TraceTree[] {
  const spansByTrace = groupBy(spans, (span) => span.traceId)
  const traceAt = tracesByTime(spansByTrace)
  const logsByTrace = groupBy(logs, (log) => log.traceId ?? traceAt(log.timeMs))
  const traceIds = new Set([...spansByTrace.keys(), ...logsByTrace.keys()])
  return [...traceIds]
    .map((traceId) =>
      buildTree(
        traceId,
        traceId === undefined ? [] : (spansByTrace.get(traceId) ?? []),
        logsByTrace.get(traceId) ?? [],
      ),
    )
    .sort((a, b) => a.startTimeMs - b.startTimeMs)
}

/** Tells which trace had begun last at a time; the first one for what is before all. */
function tracesByTime(
  spansByTrace: ReadonlyMap<string, readonly StoredSpan[]>,
): (timeMs: number | undefined) => string | undefined {
  const starts = [...spansByTrace]
    .map(([traceId, spans]) => ({ traceId, startTimeMs: extentOf(spans, []).startTimeMs }))
    .sort((a, b) => a.startTimeMs - b.startTimeMs)
  return (timeMs) => {
    const begun = starts.findLast(({ startTimeMs }) => timeMs !== undefined && startTimeMs <= timeMs)
    return (begun ?? starts[0])?.traceId
  }
}

function buildTree(
  traceId: string | undefined,
  spans: readonly StoredSpan[],
  logs: readonly StoredLog[],
): TraceTree {
  const nodes = new Map<string, SpanNode>()
  for (const span of [...spans].sort((a, b) => a.startTimeMs - b.startTimeMs)) {
    // Span IDs are unique in a trace; where they are not, the later one keeps a place of its own.
    const key = nodes.has(span.spanId) ? `${span.spanId} ${nodes.size}` : span.spanId
    nodes.set(key, { kind: 'span', span, isOrphan: false, items: [] })
  }
  const roots = linkToParents(nodes)
  const items: TraceItem[] = [...roots]
  for (const log of logs) {
    const place = (log.spanId === undefined ? undefined : nodes.get(log.spanId)) ?? requestRoot(roots)
    ;(place?.items ?? items).push({ kind: 'log', log })
  }
  for (const list of [items, ...[...nodes.values()].map((node) => node.items)]) list.sort(byTime)
  return { ...(traceId === undefined ? {} : { traceId }), items, ...extentOf(spans, logs) }
}

/** Puts each node into its parent's items, and returns those that have none. */
function linkToParents(nodes: ReadonlyMap<string, SpanNode>): SpanNode[] {
  const children = groupBy(nodes.values(), ({ span }) =>
    span.parentSpanId !== undefined && nodes.has(span.parentSpanId) ? span.parentSpanId : undefined,
  )
  const seen = new Set<SpanNode>()
  const roots: SpanNode[] = []
  const settle = (root: SpanNode) => {
    roots.push(root)
    seen.add(root)
    // A list instead of recursion: a trace may be deeper than the stack.
    for (const pending = [root]; pending.length > 0; ) {
      const parent = pending.pop()
      if (parent === undefined || nodes.get(parent.span.spanId) !== parent) continue
      for (const child of children.get(parent.span.spanId) ?? []) {
        if (seen.has(child)) continue
        seen.add(child)
        child.parent = parent
        parent.items.push(child)
        pending.push(child)
      }
    }
  }
  for (const root of children.get(undefined) ?? []) {
    root.isOrphan = root.span.parentSpanId !== undefined && !root.span.isParentRemote
    settle(root)
  }
  // What is left runs in circles: the earliest span of each is taken for its root.
  for (const node of nodes.values()) {
    if (seen.has(node)) continue
    node.isOrphan = true
    settle(node)
  }
  return roots
}

// The request's own span. An orphan is none: what it lies in was not written, and neither does a line lie in it.
function requestRoot(roots: readonly SpanNode[]): SpanNode | undefined {
  return roots.find((root) => !root.isOrphan)
}

/** `Map.groupBy`, which Node has from 21 on only. */
function groupBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

function byTime(a: TraceItem, b: TraceItem): number {
  return timeOf(a) - timeOf(b)
}

function timeOf(item: TraceItem): number {
  return item.kind === 'span' ? item.span.startTimeMs : (item.log.timeMs ?? 0)
}

function extentOf(
  spans: readonly StoredSpan[],
  logs: readonly StoredLog[],
): { startTimeMs: number; durationMs: number } {
  let first = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (const { startTimeMs, durationMs } of spans) {
    first = Math.min(first, startTimeMs)
    last = Math.max(last, startTimeMs + durationMs)
  }
  if (spans.length === 0) {
    for (const { timeMs } of logs) {
      first = Math.min(first, timeMs ?? first)
      last = Math.max(last, timeMs ?? last)
    }
  }
  return last >= first ? { startTimeMs: first, durationMs: last - first } : { startTimeMs: 0, durationMs: 0 }
}
