/** A found trace for people: a header, then each trace's tree. */
import type { FoundTrace } from '../../query/traces/find-trace.js'
import type { LinkedTraces } from '../../query/traces/linked-traces.js'
import type { TraceTree } from '../../query/traces/trace-tree.js'
import { formatDuration } from '../terminal/durations.js'
import { traceUrl } from '../terminal/jaeger-link.js'
import { paint, paintRows, type Segment } from '../terminal/paint.js'
import { plural } from '../terminal/plural.js'
import type { Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'
import { unreadableNote } from '../terminal/unreadable-note.js'
import { linkedLines } from './render-linked.js'
import { errorOf, keyHitOf } from './span-summary.js'
import { traceHeading } from './trace-heading.js'
import { treeRows } from './tree-rows.js'

/** Of many traces, the first are linked. */
const MAX_LINKS = 3

/**
 * The whole text, with a line end at its end.
 *
 * @param followed where its links lead; without, a line tells that there are some
 */
export function renderTrace(
  found: FoundTrace,
  trees: readonly TraceTree[],
  terminal: Terminal,
  followed?: LinkedTraces,
): string {
  const lines = headerLines(found, trees, terminal)
  const startTimeMs = trees[0]?.startTimeMs
  for (const tree of trees) {
    lines.push('')
    if (trees.length > 1) lines.push(traceHeading(tree.traceId, tree.startTimeMs, startTimeMs, terminal))
    lines.push(...paintRows(treeRows(tree, terminal), tree, terminal))
  }
  if (followed !== undefined) {
    lines.push(...linkedLines(followed, { traceIds: found.traceIds, startTimeMs }, terminal))
  } else if (found.links.length > 0) {
    const text = `--follow-links shows ${plural(found.links.length, 'linked trace')}`
    lines.push('', paint([{ text, style: terminal.colors.dim }], terminal.width, terminal).text)
  }
  return `${lines.join('\n')}\n`
}

function headerLines(found: FoundTrace, trees: readonly TraceTree[], terminal: Terminal): string[] {
  const { colors } = terminal
  const services = [...new Set(found.spans.map((span) => span.service).filter((name) => name !== undefined))]
  const line = (label: string, segments: Segment[], maxWidth = terminal.width) =>
    paint([{ text: label.padEnd(13), style: colors.dim }, ...segments], maxWidth, terminal).text
  const lines = idsIn(found, trees).map(({ label, id, count = '' }) =>
    // IDs are there to be pasted: never cut.
    line(label, [{ text: id, style: colors.bold }, { text: count }], Number.POSITIVE_INFINITY),
  )
  const urls = found.traceIds
    .slice(0, MAX_LINKS)
    .flatMap((traceId) => traceUrl(traceId, terminal.jaegerUrl) ?? [])
  lines.push(
    ...urls.map((url, index) => line(index === 0 ? 'jaeger' : '', [{ text: url }], Number.POSITIVE_INFINITY)),
  )
  if (services.length > 0) lines.push(line('service', [{ text: services.join(', ') }]))
  const [first] = trees
  if (first !== undefined) {
    lines.push(line('started', startSegments(first.startTimeMs, terminal)))
    lines.push(line('duration', totalSegments(found, trees, terminal)))
  }
  if (found.isTruncated) lines.push(line('', [{ text: 'There is more than fits: only a part is shown.' }]))
  if (found.unreadableLines > 0)
    lines.push(line('', [{ text: unreadableNote(found.unreadableLines), style: colors.yellow }]))
  return lines
}

/** The ID that was asked for when no trace is named by it, then those of the trace; of several, each has its heading. */
function idsIn(
  { id, foundBy, traceIds, correlationIds }: FoundTrace,
  trees: readonly TraceTree[],
): { label: string; id: string; count?: string }[] {
  const headed = trees.length > 1 ? trees.flatMap((tree) => tree.traceId ?? []) : []
  const count = headed.length > 1 ? `  ${plural(headed.length, 'trace')}` : ''
  const listed = (label: string, ids: readonly string[]) =>
    ids.map((each, index) => ({
      label: index === 0 ? label : '',
      id: each,
      ...(each === id ? { count } : {}),
    }))
  return [
    ...(foundBy === 'digest' || foundBy === 'key' ? listed(foundBy, [id]) : []),
    ...listed(
      'trace',
      traceIds.filter((each) => !headed.includes(each)),
    ),
    ...listed(
      'correlation',
      correlationIds.filter((each) => each === id || !headed.includes(each)),
    ),
  ]
}

function startSegments(startTimeMs: number, { colors, glyphs }: Terminal): Segment[] {
  const local = localTime(startTimeMs)
  if (local === undefined) return [{ text: 'at a time that cannot be read' }]
  const utc = new Date(startTimeMs).toISOString()
  if (local.zone === 'UTC') return [{ text: utc }]
  return [
    { text: `${local.date} ${local.time} ${local.zone}` },
    { text: ` ${glyphs.separator} ${utc}`, style: colors.dim },
  ]
}

function totalSegments(
  { spans, logs }: FoundTrace,
  trees: readonly TraceTree[],
  { colors, glyphs }: Terminal,
): Segment[] {
  const startMs = Math.min(...trees.map((tree) => tree.startTimeMs))
  const endMs = Math.max(...trees.map((tree) => tree.startTimeMs + tree.durationMs))
  const errors = spans.filter((span) => errorOf(span) !== undefined).length
  // Counted by key, for one use is written to several spans.
  const hits = new Set(spans.flatMap((span) => keyHitOf(span)?.keyHash ?? [])).size
  const separator: Segment = { text: ` ${glyphs.separator} `, style: colors.dim }
  const counts: Segment[] = [
    { text: plural(spans.length, 'span') },
    { text: plural(logs.length, 'log line') },
  ]
  if (errors > 0) counts.unshift({ text: plural(errors, 'error'), style: colors.red })
  // What is remarkable stands first: a narrow terminal cuts the end.
  if (hits > 0) {
    counts.unshift({ text: `${glyphs.flag} ${plural(hits, 'repeated key')}`, style: colors.yellow })
  }
  return [
    { text: formatDuration(Math.max(0, endMs - startMs)) },
    ...counts.flatMap((count) => [separator, count]),
  ]
}
