/**
 * The columns of the Parquet files that `throughline compact` writes. The line itself, as it was written, is the column
 * `json`; the others say which lines need not be looked at, so that a look-up reads a few pages of a file.
 */
import type { Comparison, FieldPath, Filter, Literal } from '../filter/ast.js'
import { type LogEntry, valueAt } from '../filter/match.js'
import { rankOf } from '../filter/ranks.js'

interface LogColumn {
  name: string
  field: FieldPath
  /** Of a text, the value as a text; of a number, its rank: NULL where it has none. */
  type: 'VARCHAR' | 'DOUBLE'
}

/** In the order of the table. */
export const LOG_COLUMNS: readonly LogColumn[] = [
  { name: 'time', field: ['time'], type: 'DOUBLE' },
  { name: 'level', field: ['level'], type: 'DOUBLE' },
  { name: 'correlation_id', field: ['correlation_id'], type: 'VARCHAR' },
  { name: 'trace_id', field: ['trace_id'], type: 'VARCHAR' },
  { name: 'digest', field: ['err', 'digest'], type: 'VARCHAR' },
  { name: 'action', field: ['action'], type: 'VARCHAR' },
  { name: 'route', field: ['route'], type: 'VARCHAR' },
]

/** A line's values, in the order of `LOG_COLUMNS`. */
export function columnValues(entry: LogEntry): (string | number | undefined)[] {
  return LOG_COLUMNS.map(({ field, type }) => {
    const value = valueAt(entry, field)
    if (type === 'VARCHAR')
      return value === undefined || typeof value === 'object' ? undefined : String(value)
    const rank = rankOf(field, value)
    return typeof rank === 'number' ? rank : undefined
  })
}

/** A condition on the columns. */
export interface Pruning {
  /** With `$1`, `$2`, …, from `first` on. */
  condition: string
  parameters: string[]
}

/** What the columns have to be for a line that matches: what is said by all of the filter, in every case. */
export function pruningOf(filter: Filter | undefined, first: number): Pruning {
  const parameters: string[] = []
  const bind = (value: string | number): string => {
    parameters.push(String(value))
    return `$${first + parameters.length - 1}::VARCHAR${typeof value === 'number' ? '::DOUBLE' : ''}`
  }
  const conditions = filter === undefined ? [] : necessary(filter).flatMap((part) => conditionsOf(part, bind))
  return { condition: conditions.length === 0 ? 'true' : conditions.join(' AND '), parameters }
}

interface NecessaryPart {
  field: FieldPath
  comparison: Comparison
  values: readonly Literal[]
}

function necessary(filter: Filter): NecessaryPart[] {
  if (filter.kind === 'and') return [...necessary(filter.left), ...necessary(filter.right)]
  if (filter.kind === 'in') return [{ field: filter.field, comparison: '=', values: filter.values }]
  if (filter.kind === 'compare')
    return [{ field: filter.field, comparison: filter.comparison, values: [filter.value] }]
  return []
}

const PRUNING = new Set<Comparison>(['=', '<', '<=', '>', '>='])

function conditionsOf(
  { field, comparison, values }: NecessaryPart,
  bind: (value: string | number) => string,
): string[] {
  const column = LOG_COLUMNS.find(({ field: known }) => known.join('.') === field.join('.'))
  if (column === undefined || !PRUNING.has(comparison)) return []
  const bounds = values.map((value) => rankOf(field, value))
  if (column.type === 'DOUBLE') {
    if (!bounds.every((bound) => typeof bound === 'number')) return []
    return [`(${bounds.map((bound) => `${column.name} ${comparison} ${bind(bound)}`).join(' OR ')})`]
  }
  // A text that is a number equals all that are the same number, however they are written.
  if (comparison !== '=' || !bounds.every((bound) => typeof bound === 'string')) return []
  return [`(${bounds.map((bound) => `${column.name} = ${bind(bound)}`).join(' OR ')})`]
}
