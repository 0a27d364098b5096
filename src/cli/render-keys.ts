/** The table of idempotency keys, for people. */
import type { FoundKeys, KeySummary } from '../query/idempotency-keys.js'
import { type Cell, columnWidths, GAP, inColumns } from './columns.js'
import { notesOn, outcomeStyle, outcomesText } from './key-texts.js'
import { paint, type Segment } from './paint.js'
import type { Terminal } from './terminal.js'
import { localTime } from './times.js'

/** On a narrow terminal an action's name is cut first, to no less than this many cells. */
const MIN_ACTION_WIDTH = 8

/** The whole text, with a line end at its end. */
export function renderKeys(found: FoundKeys, terminal: Terminal): string {
  const { colors } = terminal
  const heading = headingOf(found.keys).map((cell) => ({ ...cell, style: colors.dim }))
  const rows = found.keys.map((key) => rowOf(key, terminal))
  const [widestAction = 0, ...widths] = columnWidths([heading, ...rows])
  const besideAction = widths.reduce((sum, width) => sum + GAP.length + width, 0)
  const actionWidth = Math.min(widestAction, Math.max(MIN_ACTION_WIDTH, terminal.width - besideAction))
  const line = (segments: readonly Segment[]) => paint(segments, terminal.width, terminal).text.trimEnd()
  const lines = [heading, ...rows].map((row) => line(inColumns(row, [actionWidth, ...widths], terminal)))
  const notes = notesOn(found)
  const left = found.total - found.keys.length
  if (left > 0) notes.unshift(`${left} more: -n ${found.total} shows all.`)
  if (notes.length > 0) lines.push('', ...notes.map((text) => line([{ text, style: colors.yellow }])))
  return `${lines.join('\n')}\n`
}

function headingOf(keys: readonly KeySummary[]): Cell[] {
  const zone = keys.map((key) => localTime(key.lastUseMs)?.zone).find((known) => known !== undefined)
  return [
    { text: 'action' },
    { text: 'key' },
    { text: 'hits', align: 'end' },
    { text: 'first use', align: 'end' },
    { text: zone === undefined ? 'last use' : `last use, ${zone}` },
    { text: 'outcomes' },
  ]
}

function rowOf(key: KeySummary, terminal: Terminal): Cell[] {
  const { colors, glyphs } = terminal
  const outcomes = outcomesText(key, terminal)
  const worst = ['unknown', 'mismatch', 'takeover', 'busy'].find((outcome) => outcome in key.outcomes)
  const style = key.isSuspect ? colors.yellow : outcomeStyle(worst, terminal)
  return [
    { text: key.action },
    { text: key.keyHash, style: colors.bold },
    { text: String(key.hits), align: 'end' },
    { text: firstUseText(key), align: 'end', style: colors.dim },
    { text: timeText(key.lastUseMs) },
    // What is remarkable stands first: a narrow terminal cuts the end.
    {
      text: key.isSuspect ? `${glyphs.flag} suspect ${glyphs.separator} ${outcomes}` : outcomes,
      ...(style && { style }),
    },
  ]
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
