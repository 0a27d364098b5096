/** Groups of log lines as a table with bars. */
import type { Group, PercentileGroup, TimeBucket } from '../../query/logs/aggregate.js'
import { type Cell, columnWidths, inColumns } from '../terminal/columns.js'
import { paint } from '../terminal/paint.js'
import type { Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'

const BAR_WIDTH = 30

/** What stands for a field that lines lack. */
const ABSENT = '-'

export interface GroupTable {
  /** Of the columns of values. */
  names: readonly string[]
  /** The groups that fit, and how many there are. */
  groups: readonly (Group & Partial<PercentileGroup>)[]
  total: number
  /** Heading of the percentile, where there is one: `p95 duration_ms`. */
  percentile?: string
}

/** The whole text, with a line end at its end. */
export function renderGroups({ names, groups, total, percentile }: GroupTable, terminal: Terminal): string {
  const { dim } = terminal.colors
  const numberOf = ({ count, percentile: value }: GroupTable['groups'][number]) =>
    percentile === undefined ? count : (value ?? 0)
  const largest = Math.max(...groups.map(numberOf))
  const heading: Cell[] = [...names, ...(percentile === undefined ? [] : [percentile]), 'lines'].map(
    (text, index) => ({ text, style: dim, ...(index >= names.length ? { align: 'end' as const } : {}) }),
  )
  const rows = groups.map((group): Cell[] => [
    ...group.values.map((value) => (value === undefined ? { text: ABSENT, style: dim } : { text: value })),
    ...(percentile === undefined ? [] : [{ text: numberText(numberOf(group)), align: 'end' as const }]),
    { text: String(group.count), align: 'end' },
    barOf(numberOf(group), largest, terminal),
  ])
  const lines = tableOf([heading, ...rows], terminal)
  const left = total - groups.length
  if (left > 0) lines.push(terminal.colors.yellow(`${left} more: -n ${total} shows all.`))
  return `${lines.join('\n')}\n`
}

/** The whole text, with a line end at its end. */
export function renderHistogram(buckets: readonly TimeBucket[], terminal: Terminal): string {
  const largest = Math.max(...buckets.map(({ count }) => count))
  const rows = buckets.map(({ startMs, count }): Cell[] => {
    const local = localTime(startMs)
    return [
      {
        text: local === undefined ? '' : `${local.date} ${local.time.slice(0, 8)}`,
        style: terminal.colors.dim,
      },
      { text: String(count), align: 'end' },
      barOf(count, largest, terminal),
    ]
  })
  return `${tableOf(rows, terminal).join('\n')}\n`
}

function barOf(value: number, largest: number, { colors, glyphs }: Terminal): Cell {
  const cells = largest > 0 && value > 0 ? Math.max(1, Math.round((value / largest) * BAR_WIDTH)) : 0
  return { text: glyphs.bar.repeat(cells), style: colors.cyan }
}

function tableOf(rows: readonly (readonly Cell[])[], terminal: Terminal): string[] {
  const widths = columnWidths(rows)
  return rows.map((row) => paint(inColumns(row, widths, terminal), terminal.width, terminal).text.trimEnd())
}

function numberText(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(2)
}
