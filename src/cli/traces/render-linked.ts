/** Traces that links lead to, for people: each under a heading that says why it is there. */
import {
  type LinkedTrace,
  type LinkedTraces,
  MAX_LINKED,
  MAX_STEPS,
} from '../../query/traces/linked-traces.js'
import type { LinkReason, LinkVia } from '../../query/traces/trace-links.js'
import { buildTraceTrees } from '../../query/traces/trace-tree.js'
import { paint, paintRows } from '../terminal/paint.js'
import type { Terminal } from '../terminal/terminal.js'
import { traceHeading } from './trace-heading.js'
import { treeRows } from './tree-rows.js'

const WHAT: Record<LinkVia['direction'], Record<LinkReason, string>> = {
  from: {
    key: 'first use of the key',
    race: 'missed the same key at once',
    suspect: 'the same payload under another key',
    message: 'sent the message',
    attempt: 'the attempt before',
    other: '',
  },
  to: {
    key: 'used the key again',
    race: 'missed the same key at once',
    suspect: 'the same payload under another key',
    message: 'an attempt at the message',
    attempt: 'the attempt after',
    other: '',
  },
}

/** What the linked traces are told against. */
export interface Asked {
  traceIds: readonly string[]
  /** Epoch milliseconds; undefined when nothing has a time. */
  startTimeMs: number | undefined
}

/** Lines to follow those of the traces that were asked for. */
export function linkedLines(
  { linked, leftOut, isTruncated }: LinkedTraces,
  asked: Asked,
  terminal: Terminal,
): string[] {
  const warning = (text: string) =>
    paint([{ text, style: terminal.colors.yellow }], terminal.width, terminal).text
  const lines = linked.flatMap((trace) => {
    const tree = treeLines(trace, terminal)
    const missing = isTruncated ? 'Its spans are not among what fits.' : 'Its spans are not in the files.'
    return ['', ...headingLines(trace, asked, terminal), ...(tree.length > 0 ? tree : [warning(missing)])]
  })
  if (leftOut === 0) return lines
  const bounds = `${MAX_LINKED} are shown at most, up to ${MAX_STEPS} steps away`
  return [...lines, '', warning(`${leftOut} or more linked traces left out: ${bounds}.`)]
}

function treeLines({ spans, logs }: LinkedTrace, terminal: Terminal): string[] {
  return buildTraceTrees(spans, logs).flatMap((tree) => paintRows(treeRows(tree, terminal), tree, terminal))
}

function headingLines({ traceId, via, spans }: LinkedTrace, asked: Asked, terminal: Terminal): string[] {
  const { colors, glyphs } = terminal
  const glyph = via.direction === 'from' ? glyphs.back : glyphs.forth
  return [
    traceHeading(traceId, spans[0]?.startTimeMs, asked.startTimeMs, terminal),
    paint([{ text: `${glyph} ${whyText(via, asked)}`, style: colors.dim }], terminal.width, terminal).text,
  ]
}

/** `first use of the key, linked from POST /` */
function whyText({ direction, reason, traceId, name }: LinkVia, asked: Asked): string {
  const what = WHAT[direction][reason]
  // One of several traces is told by more than its name.
  const isOnlyOne = asked.traceIds.length === 1 && asked.traceIds[0] === traceId
  const short = traceId.slice(0, SHORT_ID_LENGTH)
  const other = name === undefined ? `trace ${short}` : isOnlyOne ? name : `${name} (${short})`
  return `${what}${what === '' ? '' : ', '}linked ${direction} ${other}`
}

const SHORT_ID_LENGTH = 8
