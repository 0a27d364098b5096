/** Found lines, counted. */

import { printField } from '../../query/filter/print.js'
import { type Aggregate, type AggregateResult, aggregateLines } from '../../query/logs/aggregate.js'
import { aggregateLogs } from '../../query/logs/aggregate-logs.js'
import { csvRow } from '../terminal/csv.js'
import type { Output } from '../terminal/output.js'
import { printableDocument } from '../terminal/printable.js'
import type { Terminal } from '../terminal/terminal.js'
import type { LogsOptions, Question } from './options.js'
import { renderGroups, renderHistogram } from './render-groups.js'

/** Groups that are listed, unless -n says how many. */
const DEFAULT_GROUPS = 30

/** 1, or 0 when there are no rows. */
export async function answerTable(
  question: Question,
  aggregate: Aggregate,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const { remote, filter } = question
  const result =
    remote === undefined
      ? await aggregateLogs(question, aggregate)
      : await aggregateLines(remote.find({ filter }), aggregate)
  const text = tableText(result, aggregate, options, terminal)
  if (text === undefined) return 0
  await output.write(text)
  return 1
}

/** The whole text, with a line end at its end; undefined when there are no rows. */
function tableText(
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
