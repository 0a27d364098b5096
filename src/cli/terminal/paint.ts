/** Rows of text, a duration and a bar, laid out in the cells of a terminal. */
import { formatDuration } from './durations.js'
import { printable, startOfWidth, textWidth } from './printable.js'
import type { Terminal } from './terminal.js'

export interface Segment {
  text: string
  style?: (text: string) => string
}

export interface Row {
  label: Segment[]
  /** Shown in columns of their own, right of all labels. */
  timing?: { startTimeMs: number; durationMs: number; style: (text: string) => string }
  /** Never cut, for it is there to be pasted: after `joint` if it fits, else on its own line after `indent`. */
  tail?: { joint: Segment; indent: Segment[]; segments: Segment[] }
}

/** The time that the whole width of a bar stands for. */
export interface TimeScale {
  startTimeMs: number
  durationMs: number
}

/** Below this many cells a line has no room for bars. */
const MIN_WIDTH_FOR_BARS = 72

const GAP = '  '

/** Each row as one line, never wider than the terminal (two lines when its tail does not fit). */
export function paintRows(rows: readonly Row[], scale: TimeScale, terminal: Terminal): string[] {
  const timed = rows.filter((row) => row.timing !== undefined)
  const durationWidth = Math.max(0, ...timed.map((row) => formatDuration(row.timing?.durationMs ?? 0).length))
  const barWidth =
    terminal.width < MIN_WIDTH_FOR_BARS ? 0 : Math.min(30, Math.max(12, Math.floor(terminal.width / 5)))
  const besideLabel = GAP.length + durationWidth + (barWidth === 0 ? 0 : GAP.length + barWidth)
  const widestLabel = timed.reduce((widest, row) => Math.max(widest, widthOf(row.label)), 0)
  const labelWidth = Math.max(1, Math.min(widestLabel, terminal.width - besideLabel))
  return rows.flatMap((row) => {
    if (row.timing === undefined) return paintUntimed(row, terminal)
    const label = paint(row.label, labelWidth, terminal)
    const duration = formatDuration(row.timing.durationMs).padStart(durationWidth)
    const bar = barWidth === 0 ? '' : GAP + barOf(row.timing, scale, barWidth, terminal)
    return label.text + ' '.repeat(labelWidth - label.width) + GAP + duration + bar
  })
}

/**
 * Segments as coloured text of at most `maxWidth` cells. All that is printed goes through here, so that
 * nothing in it can be a command to the terminal.
 */
export function paint(
  segments: readonly Segment[],
  maxWidth: number,
  { glyphs }: Terminal,
): { text: string; width: number } {
  const isCut = widthOf(segments) > maxWidth
  const room = isCut ? maxWidth - textWidth(glyphs.ellipsis) : maxWidth
  let text = ''
  let width = 0
  for (const { text: given, style = plain } of segments) {
    const safe = safeText(given)
    const shown = isCut ? startOfWidth(safe, room - width) : safe
    const isEnd = shown.length < safe.length
    const ended = isEnd && room >= 0 ? shown + glyphs.ellipsis : shown
    if (ended !== '') text += style(ended)
    width += textWidth(ended)
    if (isEnd) break
  }
  return { text, width }
}

function plain(text: string): string {
  return text
}

function paintUntimed(row: Row, terminal: Terminal): string[] {
  if (row.tail === undefined) return [paint(row.label, terminal.width, terminal).text]
  const { joint, indent, segments } = row.tail
  const oneLine = [...row.label, joint, ...segments]
  if (widthOf(oneLine) <= terminal.width) return [paint(oneLine, terminal.width, terminal).text]
  return [
    paint(row.label, terminal.width, terminal).text,
    paint([...indent, ...segments], Number.POSITIVE_INFINITY, terminal).text,
  ]
}

function barOf(
  timing: NonNullable<Row['timing']>,
  scale: TimeScale,
  barWidth: number,
  { glyphs }: Terminal,
): string {
  const perCellMs = scale.durationMs / barWidth
  const cells = perCellMs === 0 ? barWidth : timing.durationMs / perCellMs
  const start = perCellMs === 0 ? 0 : Math.floor((timing.startTimeMs - scale.startTimeMs) / perCellMs)
  // Clocks of two machines differ: a bar stays on its scale.
  const from = Math.min(barWidth - 1, Math.max(0, start))
  const length = Math.min(barWidth - from, Math.max(1, Math.round(cells)))
  return ' '.repeat(from) + timing.style(cells < 0.5 ? glyphs.shortBar : glyphs.bar.repeat(length))
}

function widthOf(segments: readonly Segment[]): number {
  return segments.reduce((width, segment) => width + textWidth(safeText(segment.text)), 0)
}

/** More of a text is never shown, in UTF-16 units: a line of megabytes costs no more than a long one. */
const MAX_TEXT_LENGTH = 4000

/** A text as it will stand in a line. */
export function safeText(text: string): string {
  return printable(text.slice(0, MAX_TEXT_LENGTH))
}
