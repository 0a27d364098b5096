/** What SQL answers: a table for people, an object a line for programs, or CSV. */
import { askSql, type SqlAnswer } from '../../query/duckdb/ask-sql.js'
import { filesAtAll, STDIN } from '../../query/files/sources.js'
import { stageLines } from '../../query/files/staged-lines.js'
import { findLogs } from '../../query/logs/find-logs.js'
import { type Cell, columnWidths, inColumns } from '../terminal/columns.js'
import { csvRow } from '../terminal/csv.js'
import type { Output } from '../terminal/output.js'
import { paint } from '../terminal/paint.js'
import { printableJson } from '../terminal/printable.js'
import type { Terminal } from '../terminal/terminal.js'
import type { LogsOptions, Question } from './options.js'

/** Columns are as wide as the values of so many rows: they are not kept. */
const MEASURED_ROWS = 1_000

/** Longer values are cut, in cells: a whole line is one. */
const MAX_WIDTH = 80

type Row = readonly unknown[]

/** How many rows there are. */
export async function answerSql(
  question: Question,
  sql: string,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const { paths, filter, tally } = question
  // DuckDB reads files itself: of other lines one is made.
  const isFile = filter === undefined && !paths.includes(STDIN)
  const staged = isFile ? undefined : await stageLines(findLogs(question))
  try {
    const files = staged === undefined ? await filesAtAll(paths) : [staged.file]
    if (files.length === 0) return 0
    const answered = await askSql(sql, files, staged === undefined ? tally : { ...tally })
    return await printSql(answered, options, output, terminal)
  } finally {
    staged?.remove()
  }
}

/** Stops when nobody reads any more. */
async function printSql(
  { columns, rows }: SqlAnswer,
  { json, csv, count }: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const write =
    json === true
      ? (row: Row) =>
          printableJson(`${JSON.stringify(Object.fromEntries(columns.map((name, at) => [name, row[at]])))}\n`)
      : csv === true
        ? csvRow
        : undefined
  if (csv === true) await output.write(csvRow(columns))
  const measured: Row[] = []
  let widths: number[] | undefined
  let found = 0
  const asTable = (row: Row) => tableRow(row.map(cellOf), widths ?? [], terminal)
  const printMeasured = async () => {
    const heading = columns.map((text): Cell => ({ text, style: terminal.colors.dim }))
    widths = columnWidths([heading, ...measured.map((row) => row.map(cellOf))]).map((width) =>
      Math.min(width, MAX_WIDTH),
    )
    if (columns.length > 0)
      await output.write(tableRow(heading, widths, terminal) + measured.splice(0).map(asTable).join(''))
  }
  for await (const row of rows) {
    if (output.isClosed || found === count) break
    found += 1
    if (write !== undefined) await output.write(write(row))
    else if (widths !== undefined) await output.write(asTable(row))
    else if (measured.push(row) === MEASURED_ROWS) await printMeasured()
  }
  if (write === undefined && widths === undefined && found > 0) await printMeasured()
  return found
}

function tableRow(cells: readonly Cell[], widths: readonly number[], terminal: Terminal): string {
  return `${paint(inColumns(cells, widths, terminal), Number.POSITIVE_INFINITY, terminal).text.trimEnd()}\n`
}

function cellOf(value: unknown): Cell {
  if (value === null || value === undefined) return { text: '' }
  if (typeof value === 'number') return { text: String(value), align: 'end' }
  return { text: typeof value === 'string' ? value : JSON.stringify(value) }
}
