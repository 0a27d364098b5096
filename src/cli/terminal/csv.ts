/** Rows as comma-separated values (RFC 4180), for spreadsheets. */
import { stringify } from 'csv-stringify/sync'
import { printable } from './printable.js'

/**
 * One row, with its line end. A text that a spreadsheet would take for a formula begins with `'`; of what a terminal
 * obeys only line ends stay.
 *
 * @param values undefined and null are empty; what is neither a text nor a number is JSON
 */
export function csvRow(values: readonly unknown[]): string {
  return stringify([values.map(cellOf)], { escape_formulas: true })
}

function cellOf(value: unknown): string | number | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number') return value
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  return text.split(/\r?\n/).map(printable).join('\n')
}
