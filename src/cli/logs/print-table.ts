/** Found lines, counted. */

import { printField } from '../../query/filter/print.js'
import type { Aggregate, AggregateResult } from '../../query/logs/aggregate.js'
import { csvRow } from '../terminal/csv.js'
import { printableDocument } from '../terminal/printable.js'
import type { Terminal } from '../terminal/terminal.js'
import { type LogsOptions, PERCENTILES } from './options.js'
import { renderGroups, renderHistogram } from './render-groups.js'

/** Groups that are listed, unless -n says how many. */
const DEFAULT_GROUPS = 30

/** Undefined when the lines themselves are asked for. */
export function aggregateOf(options: LogsOptions): Aggregate | undefined {
  if (options.histogram !== undefined) return { kind: 'histogram', bucketMs: options.histogram }
  if (options.countBy !== undefined) return { kind: 'count', by: options.countBy }
  const kind = PERCENTILES.find((name) => options[name] !== undefined)
  const field = kind && options[kind]
  if (kind === undefined || field === undefined) return undefined
  return { kind: 'percentile', field, percent: Number(kind.slice(1)), by: options.by ?? [] }
}

/** The whole text, with a line end at its end; undefined when there are no rows. */
export function tableText(
  result: AggregateResult,
  aggregate: Aggregate,
  options: LogsOptions,
  terminal: Terminal,
): string | undefined {
  if (result.kind === 'histogram') {
    const { buckets } = result
    if (buckets.length === 0) return undefined
    if (options.json === true) return printableDocument(buckets)
    if (options.csv !== true) return renderHistogram(buckets, terminal)
    const rows = buckets.map(({ startMs, count }) => [new Date(startMs).toISOString(), count])
    return [['start', 'lines'], ...rows].map(csvRow).join('')
  }
  const { groups } = result
  if (groups.length === 0) return undefined
  const names = (aggregate.kind === 'histogram' ? [] : aggregate.by).map(printField)
  if (options.json === true)
    return printableDocument(
      groups.map(({ values, ...group }) => ({ values: named(names, values), ...group })),
    )
  const number =
    aggregate.kind === 'percentile' ? `p${aggregate.percent} ${printField(aggregate.field)}` : undefined
  if (options.csv === true) {
    const heading = [...names, ...(number === undefined ? [] : [number]), 'lines']
    const rows = groups.map((group) => [
      ...group.values,
      ...('percentile' in group ? [group.percentile] : []),
      group.count,
    ])
    return [heading, ...rows].map(csvRow).join('')
  }
  const shown = groups.slice(0, options.count ?? DEFAULT_GROUPS)
  return renderGroups(
    { names, groups: shown, total: groups.length, ...(number !== undefined && { percentile: number }) },
    terminal,
  )
}

function named(names: readonly string[], values: readonly (string | undefined)[]): object {
  return Object.fromEntries(names.map((name, index) => [name, values[index]]))
}
