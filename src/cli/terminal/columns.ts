/** Text in columns, each as wide as its widest cell. */
import { paint, type Segment, safeText } from './paint.js'
import { textWidth } from './printable.js'
import type { Terminal } from './terminal.js'

export const GAP = '  '

/** A cell; its text may be anything. */
export interface Cell extends Segment {
  /** Default `start`. */
  align?: 'start' | 'end'
}

/** The width of each column, in cells of the terminal. */
export function columnWidths(rows: readonly (readonly Cell[])[]): number[] {
  const widths: number[] = []
  for (const row of rows) {
    for (const [column, { text }] of row.entries())
      widths[column] = Math.max(widths[column] ?? 0, textWidth(safeText(text)))
  }
  return widths
}

/** A row as segments: each text padded to its column's width, or cut to it. */
export function inColumns(row: readonly Cell[], widths: readonly number[], terminal: Terminal): Segment[] {
  return row.flatMap(({ text, style, align = 'start' }, column) => {
    const width = widths[column] ?? 0
    const shown = paint([{ text }], width, terminal)
    const cell = { text: shown.text, ...(style && { style }) }
    const padding = { text: ' '.repeat(width - shown.width) }
    return [{ text: column === 0 ? '' : GAP }, ...(align === 'end' ? [padding, cell] : [cell, padding])]
  })
}
