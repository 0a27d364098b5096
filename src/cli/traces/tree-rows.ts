/** The tree of one trace as rows: spans, what went wrong in them, repeated keys, and log lines in between. */
import type { StoredLog } from '../../query/logs/log-files.js'
import type { SpanNode, TraceItem, TraceTree } from '../../query/traces/trace-tree.js'
import { ATTRIBUTE } from '../../telemetry/names.js'
import { shownFields } from '../logs/log-fields.js'
import { formatDuration } from '../terminal/durations.js'
import type { Row, Segment } from '../terminal/paint.js'
import type { Terminal } from '../terminal/terminal.js'
import { cameFrom, errorOf, type KeyHit, keyHitOf, raceOf, spanHints } from './span-summary.js'

/** Deeper levels are drawn at this indentation, in cells: a stranger's trace may be 10 000 levels deep. */
const MAX_INDENT = 60

interface Pending {
  item: TraceItem
  /** Drawn before the item itself. */
  lead: string
  /** Drawn before all that is inside it. */
  indent: string
}

/** Rows from the top down. */
export function treeRows(tree: TraceTree, terminal: Terminal): Row[] {
  const copies = copiedHits(tree)
  const rows: Row[] = []
  const pending: Pending[] = tree.items.map((item) => ({ item, lead: '', indent: '' })).reverse()
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { item, lead, indent } = next
    if (item.kind === 'log') {
      rows.push(logRow(item.log, lead, terminal))
      continue
    }
    rows.push(...spanRows(item, next, copies.has(item), terminal))
    pending.push(...childrenOf(item, indent, terminal).reverse())
  }
  return rows
}

function childrenOf(node: SpanNode, indent: string, { glyphs }: Terminal): Pending[] {
  return node.items.map((item, index) => {
    const isLast = index === node.items.length - 1
    const [branch, lastBranch] =
      item.kind === 'log' ? [glyphs.logBranch, glyphs.lastLogBranch] : [glyphs.branch, glyphs.lastBranch]
    return {
      item,
      lead: indent + (isLast ? lastBranch : branch),
      indent: (indent + (isLast ? '   ' : glyphs.trunk)).slice(0, MAX_INDENT),
    }
  })
}

function spanRows(node: SpanNode, { lead, indent }: Pending, isCopy: boolean, terminal: Terminal): Row[] {
  const { colors, glyphs } = terminal
  const { span } = node
  const error = errorOf(span)
  const hit = keyHitOf(span)
  const nameStyle = error !== undefined ? colors.red : node.parent === undefined ? colors.bold : undefined
  const barStyle =
    error !== undefined ? colors.red : hit !== undefined ? colors.yellow : barColor(node, terminal)
  const label: Segment[] = [
    { text: lead, style: colors.dim },
    { text: span.name, ...(nameStyle === undefined ? {} : { style: nameStyle }) },
  ]
  if (isCopy) label.push({ text: ` ${glyphs.flag}`, style: colors.yellow })
  const hints = spanHints(span)
  if (span.service !== node.parent?.span.service && node.parent !== undefined) hints.push(span.service ?? '')
  if (hints.length > 0) label.push({ text: `  ${hints.join(` ${glyphs.separator} `)}`, style: colors.dim })
  if (node.isOrphan) label.push({ text: '  (orphan: its parent was not written)', style: colors.yellow })

  const { startTimeMs, durationMs } = span
  const rows: Row[] = [{ label, timing: { startTimeMs, durationMs, style: barStyle } }]
  const below: Segment = { text: indent + (node.items.length > 0 ? glyphs.trunk : '   '), style: colors.dim }
  if (error !== undefined)
    rows.push({ label: [below, { text: `${glyphs.cross} ${error}`, style: colors.red }] })
  if (hit !== undefined && !isCopy) rows.push(hitRow(hit, below, span.traceId, terminal))
  const race = raceOf(span)
  if (race !== undefined) rows.push(raceRow(race, below, terminal))
  for (const { what, traceId } of cameFrom(span)) rows.push(originRow(what, traceId, below, terminal))
  return rows
}

function originRow(what: string, traceId: string, below: Segment, { colors, glyphs }: Terminal): Row {
  const label: Segment[] = [below, { text: `${glyphs.back} ${what}`, style: colors.dim }]
  const tail: Segment[] = [
    { text: 'trace ', style: colors.dim },
    { text: traceId, style: colors.dim },
  ]
  return { label, tail: { joint: { text: ' ' }, indent: [below, { text: '  ' }], segments: tail } }
}

function barColor(node: SpanNode, { colors }: Terminal): (text: string) => string {
  const { attributes } = node.span
  return attributes[ATTRIBUTE.dbSystem] !== undefined || attributes['db.system'] !== undefined
    ? colors.magenta
    : colors.cyan
}

function raceRow(otherTraceId: string, below: Segment, { colors, glyphs }: Terminal): Row {
  const label: Segment[] = [
    below,
    { text: `${glyphs.flag} idempotency race`, style: (text) => colors.bold(colors.red(text)) },
    { text: '  two requests missed the key at once, and both did the work', style: colors.yellow },
  ]
  return otherTraceId === '' ? { label } : { label, tail: traceTail(otherTraceId, below, colors) }
}

function hitRow(hit: KeyHit, below: Segment, traceId: string, { colors, glyphs }: Terminal): Row {
  const count = hit.hits === undefined ? '' : ` ${glyphs.times}${hit.hits}`
  const firstUse = hit.ageMs === undefined ? 'first use' : `first use ${formatDuration(hit.ageMs)} before`
  const label: Segment[] = [
    below,
    { text: `${glyphs.flag} idempotency hit${count}`, style: (text) => colors.bold(colors.yellow(text)) },
    { text: `  ${hit.outcome} ${glyphs.separator} ${firstUse}`, style: colors.yellow },
  ]
  if (hit.originTraceId === undefined) return { label }
  if (hit.originTraceId === traceId)
    return { label: [...label, { text: ', in this trace', style: colors.yellow }] }
  return { label, tail: traceTail(hit.originTraceId, below, colors) }
}

/** Another trace, beside the row or, where there is no room, below it. */
function traceTail(traceId: string, below: Segment, colors: Terminal['colors']): NonNullable<Row['tail']> {
  const segments: Segment[] = [
    { text: 'trace ', style: colors.yellow },
    { text: traceId, style: (text) => colors.bold(colors.yellow(text)) },
  ]
  return { joint: { text: ', ', style: colors.yellow }, indent: [below, { text: '  ' }], segments }
}

/**
 * A use of a key is written to the span that saw it and copied to the request's first span. The copies: they
 * get a mark only, for the whole story is told below them.
 */
function copiedHits(tree: TraceTree): Set<SpanNode> {
  const copies = new Set<SpanNode>()
  const pending: TraceItem[] = [...tree.items]
  for (let item = pending.pop(); item !== undefined; item = pending.pop()) {
    if (item.kind === 'log') continue
    pending.push(...item.items)
    const keyHash = keyHitOf(item.span)?.keyHash
    if (keyHash === undefined) continue
    for (let above = item.parent; above !== undefined; above = above.parent) {
      if (keyHitOf(above.span)?.keyHash === keyHash) copies.add(above)
    }
  }
  return copies
}

function logRow(log: StoredLog, lead: string, { colors }: Terminal): Row {
  const style =
    log.level === 'error' || log.level === 'fatal'
      ? colors.red
      : log.level === 'warn'
        ? colors.yellow
        : colors.dim
  const fields = shownFields(log.fields)
  return {
    label: [
      { text: lead, style: colors.dim },
      { text: `${log.level}  ${log.message}`, style },
      { text: fields.length === 0 ? '' : `  ${fields.join(' ')}`, style: colors.dim },
    ],
  }
}
