/** What `throughline logs` can be told. */

import { InvalidArgumentError } from 'commander'
import type { FieldPath } from '../../query/filter/ast.js'
import { parseField } from '../../query/filter/parse.js'
import type { Aggregate } from '../../query/logs/aggregate.js'
import type { LogQuery } from '../../query/logs/find-logs.js'
import type { RemoteLogs } from '../../query/remote/contract.js'
import type { FilterOptions } from './log-filter.js'

export interface LogsOptions extends FilterOptions {
  count?: number
  context?: number
  follow?: boolean
  fields?: FieldPath[]
  countBy?: FieldPath[]
  p50?: FieldPath
  p95?: FieldPath
  p99?: FieldPath
  by?: FieldPath[]
  /** Milliseconds. */
  histogram?: number
  sql?: string
  json?: boolean
  csv?: boolean
  color: boolean
  pager: boolean
  dir?: string
  /** URL of a store on another machine. */
  source?: string
}

export interface Question extends LogQuery {
  names: Set<string>
  /** Asks a store instead of files. */
  remote?: RemoteLogs | undefined
}

const PERCENTILES = ['p50', 'p95', 'p99'] as const

/** Of these options, each makes a table of its own. */
const TABLES = ['countBy', ...PERCENTILES, 'histogram', 'sql'] as const

/** Undefined when the lines themselves are asked for. */
export function aggregateOf(options: LogsOptions): Aggregate | undefined {
  if (options.histogram !== undefined) return { kind: 'histogram', bucketMs: options.histogram }
  if (options.countBy !== undefined) return { kind: 'count', by: options.countBy }
  const kind = PERCENTILES.find((name) => options[name] !== undefined)
  const field = kind && options[kind]
  if (kind === undefined || field === undefined) return undefined
  return { kind: 'percentile', field, percent: Number(kind.slice(1)), by: options.by ?? [] }
}

/** What cannot be asked together, for people; undefined when all can. */
export function conflictOf(
  options: LogsOptions,
  paths: readonly string[],
  stdin: string,
): string | undefined {
  const { source, follow, context, csv, json, by, sql } = options
  const tables = TABLES.filter((name) => options[name] !== undefined)
  if (tables.length > 1)
    return '--count-by, --p50, --p95, --p99, --histogram and --sql each make a table: name one.'
  if (by !== undefined && !PERCENTILES.some((name) => options[name] !== undefined))
    return '--by groups a percentile: name one, as --p95 duration_ms.'
  if (json === true && csv === true) return '--json and --csv are two ways to write the same: name one.'
  if (source !== undefined && paths.length > 0) return '--source asks a store: name no files with it.'
  if (source !== undefined && (sql !== undefined || context !== undefined))
    return `--source asks a store, and ${sql === undefined ? '--context' : '--sql'} needs files.`
  if (context !== undefined && tables.length > 0) return '--context is of lines, and a table has none.'
  if (follow !== true) return undefined
  if (tables.length > 0) return '--follow never ends, and a table is made at the end: name one.'
  if (source !== undefined) return '--follow is of files: --source cannot be followed.'
  if (context !== undefined)
    return '--follow shows lines as they come: --context cannot wait for what follows.'
  return paths.includes(stdin) ? 'Standard input is followed without --follow.' : undefined
}

export function fieldsArgument(value: string): FieldPath[] {
  try {
    return value.split(',').map((name) => parseField(name.trim()))
  } catch {
    throw new InvalidArgumentError('Fields are named with commas between: route,err.message.')
  }
}

export function fieldArgument(value: string): FieldPath {
  const [field, ...others] = fieldsArgument(value)
  if (field !== undefined && others.length === 0) return field
  throw new InvalidArgumentError('It is one field: duration_ms.')
}
