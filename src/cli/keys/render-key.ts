/** The timeline of one idempotency key, for people: a header, then a line for each use. */
import type { FoundKey, KeySummary } from '../../query/keys/idempotency-keys.js'
import type { KeyUse } from '../../query/keys/key-uses.js'
import { type Cell, columnWidths, GAP, inColumns } from '../terminal/columns.js'
import { formatDuration } from '../terminal/durations.js'
import { paint, paintRows, type Row, type Segment } from '../terminal/paint.js'
import type { Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'
import { notesOn, outcomeStyle, outcomesText } from './key-texts.js'

const INDENT = '    '

/** The whole text, with a line end at its end. */
export function renderKey(found: FoundKey, terminal: Terminal): string {
  const uses = [...found.uses, ...found.suspects].sort((a, b) => a.timeMs - b.timeMs)
  const rows = uses.map((use) => cellsOf(use, found.key, terminal))
  const widths = columnWidths(rows)
  const lines = uses.flatMap((use, index): Row[] => {
    const label = inColumns(rows[index] ?? [], widths, terminal)
    // IDs are there to be pasted: never cut.
    const tail = { joint: { text: GAP }, indent: [{ text: INDENT }], segments: [idCell(use, terminal)] }
    return [{ label, tail }, ...remarksOn(use, found.key, terminal)]
  })
  const scale = { startTimeMs: 0, durationMs: 0 }
  return `${[...headerLines(found, terminal), '', ...paintRows(lines, scale, terminal)].join('\n')}\n`
}

function headerLines({ key, ...read }: FoundKey, terminal: Terminal): string[] {
  const { colors } = terminal
  const line = (label: string, segment: Segment) =>
    paint([{ text: label.padEnd(13), style: colors.dim }, segment], terminal.width, terminal).text
  const zone = localTime(key.lastUseMs)?.zone
  const notes = notesOn(read)
  if (!key.isFirstUseKnown)
    notes.unshift('The first use is not in the files, and no later one tells when it was.')
  return [
    paint(
      [
        { text: 'key'.padEnd(13), style: colors.dim },
        { text: key.keyHash, style: colors.bold },
      ],
      Number.POSITIVE_INFINITY,
      terminal,
    ).text,
    line('used again', { text: key.hits === 1 ? '1 time' : `${key.hits} times` }),
    line('outcomes', { text: outcomesText(key, terminal) }),
    ...(zone === undefined ? [] : [line('times', { text: zone })]),
    ...notes.map((text) => line('', { text, style: colors.yellow })),
  ]
}

function cellsOf(use: KeyUse, key: KeySummary, terminal: Terminal): Cell[] {
  const local = localTime(use.timeMs)
  const style = outcomeStyle(use.outcome, terminal)
  return [
    { text: local === undefined ? 'not a time' : `${local.date} ${local.time}` },
    { text: ageText(use, key), align: 'end' },
    { text: use.outcome ?? '-', ...(style && { style }) },
    { text: use.action },
  ]
}

// A key that was kept no longer than its retention begins anew: its age is then that of the new record.
function ageText(use: KeyUse, key: KeySummary): string {
  const isOfKey = use.keyHash === key.keyHash
  if (use.isToldLater || (isOfKey && !use.isHit && use.outcome === 'won')) return 'first use'
  if (use.ageMs !== undefined) return formatDuration(use.ageMs)
  return key.isFirstUseKnown ? formatDuration(use.timeMs - key.firstUseMs) : ''
}

function idCell({ traceId }: KeyUse, { colors }: Terminal): Segment {
  return { text: traceId ?? 'not traced', style: colors.dim }
}

function remarksOn(use: KeyUse, key: KeySummary, { colors, glyphs }: Terminal): Row[] {
  const { keyHash, isSuspect, suspectKeyHash, isToldLater } = use
  const other = suspectKeyHash === undefined ? 'another key' : `key ${suspectKeyHash}`
  const what = keyHash === key.keyHash ? `had just come under ${other}` : `came again, under key ${keyHash}`
  const suspect = `${INDENT}${glyphs.flag} suspect: the same payload ${what}`
  const told = `${INDENT}told by a later use: no span in the files shows it`
  return [
    ...(isSuspect ? [{ label: [{ text: suspect, style: colors.yellow }] }] : []),
    ...(isToldLater ? [{ label: [{ text: told, style: colors.dim }] }] : []),
  ]
}
