/** The table of idempotency keys, for people. */
import type { FoundKeys, KeySummary } from '../../query/keys/idempotency-keys.js'
import { type Cell, columnWidths, GAP, inColumns } from '../terminal/columns.js'
import { paint, type Segment } from '../terminal/paint.js'
import type { Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'
import { notesOn, outcomeStyle, outcomesText } from './key-texts.js'

/** On a narrow terminal an action's name is cut, to no less than this many cells. */
const MIN_ACTION_WIDTH = 8

const INDENT = '    '

/** The whole text, with a line end at its end. */
export function renderKeys(found: FoundKeys, terminal: Terminal): string {
  const { colors } = terminal
  const rows = [headingOf(found.keys, terminal), ...found.keys.map((key) => rowOf(key, terminal))]
  const [widestAction = 0, ...widths] = columnWidths(rows.map((row) => row.columns))
  const besideAction = widths.reduce((sum, width) => sum + GAP.length + width, 0)
  const actionWidth = Math.min(widestAction, Math.max(MIN_ACTION_WIDTH, terminal.width - besideAction))
  const line = (segments: readonly Segment[]) => paint(segments, terminal.width, terminal).text.trimEnd()
  const lines = rows.flatMap(({ columns, outcomes }) => {
    const label = inColumns(columns, [actionWidth, ...widths], terminal)
    const oneLine = [...label, { text: GAP }, outcomes]
    if (paint(oneLine, Number.POSITIVE_INFINITY, terminal).width <= terminal.width) return [line(oneLine)]
    return [line(label), line([{ text: INDENT }, outcomes])]
  })
  const notes = notesOn(found)
  const left = found.total - found.keys.length
  if (left > 0) notes.unshift(`${left} more: -n ${found.total} shows all.`)
  if (notes.length > 0) lines.push('', ...notes.map((text) => line([{ text, style: colors.yellow }])))
  return `${lines.join('\n')}\n`
}

interface TableRow {
  columns: Cell[]
  /** After the columns if it fits, else on a line of its own. */
  outcomes: Segment
}

function headingOf(keys: readonly KeySummary[], { colors: { dim } }: Terminal): TableRow {
  const zone = keys.map((key) => localTime(key.lastUseMs)?.zone).find((known) => known !== undefined)
  return {
    columns: [
      { text: 'action', style: dim },
      { text: 'key', style: dim },
      { text: 'hits', style: dim, align: 'end' },
      { text: 'first use', style: dim, align: 'end' },
      { text: zone === undefined ? 'last use' : `last use, ${zone}`, style: dim },
    ],
    outcomes: { text: 'outcomes', style: dim },
  }
}

function rowOf(key: KeySummary, terminal: Terminal): TableRow {
  const { colors, glyphs } = terminal
  const outcomes = outcomesText(key, terminal)
  const worst = ['unknown', 'mismatch', 'takeover', 'busy'].find((outcome) => outcome in key.outcomes)
  const style = key.isSuspect ? colors.yellow : outcomeStyle(worst, terminal)
  return {
    columns: [
      { text: key.action },
      { text: key.keyHash, style: colors.bold },
      { text: String(key.hits), align: 'end' },
      { text: firstUseText(key), align: 'end', style: colors.dim },
      { text: timeText(key.lastUseMs) },
    ],
    // What is remarkable stands first: a narrow terminal cuts the end.
    outcomes: {
      text: key.isSuspect ? `${glyphs.flag} suspect ${glyphs.separator} ${outcomes}` : outcomes,
      ...(style && { style }),
    },
  }
}

// The day once, when it is the day of the last use: 80 cells have room for the outcomes then.
function firstUseText({ firstUseMs, lastUseMs, isFirstUseKnown }: KeySummary): string {
  const first = localTime(firstUseMs)
  const isSameDay = first?.date === localTime(lastUseMs)?.date
  const text = first !== undefined && isSameDay ? first.time.slice(0, 8) : timeText(firstUseMs)
  return isFirstUseKnown ? text : `before ${text}`
}

function timeText(timeMs: number): string {
  const local = localTime(timeMs)
  return local === undefined ? 'not a time' : `${local.date} ${local.time.slice(0, 8)}`
}
