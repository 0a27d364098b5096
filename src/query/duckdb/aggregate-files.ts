/**
 * Lines counted by DuckDB, with the same answer as `aggregateLines` has: values are grouped as they are written, and
 * these few groups put together here. Lines that DuckDB would take for something else are looked at here, too.
 */
import type { DuckDBConnection, DuckDBValue } from '@duckdb/node-api'
import type { ReadTally } from '../files/ndjson-files.js'
import { isParquet } from '../files/sources.js'
import { type FieldPath, type Filter, TIME_FIELD } from '../filter/ast.js'
import { compileForDuckdb } from '../filter/compile-duckdb.js'
import type { LogEntry } from '../filter/match.js'
import {
  type Aggregate,
  type AggregateResult,
  byPercentile,
  CountedGroups,
  CountedSpans,
  groupValue,
  groupValues,
  type PercentileGroup,
} from '../logs/aggregate.js'
import { readLines } from '../logs/find-logs.js'
import { pruningOf } from './log-columns.js'
import { brokenLines, IS_OBJECT, linesOfFiles } from './log-lines.js'
import { openDuckdb } from './open.js'

/** So many lines are looked at here: of more, all are. */
const MAX_LEFT = 10_000

/** What DuckDB says of lines, or of what is kept of them, that do not fit into its memory. */
const TOO_LARGE = /Out of Memory|maximum_object_size|Maximum line size/i

export interface FilesAggregate {
  files: readonly string[]
  filter?: Filter | undefined
  aggregate: Aggregate
  /** Counted up when there is an answer. */
  tally: ReadTally
}

/**
 * Undefined when the question is one for `aggregateLines`: a regular expression, for DuckDB knows others, or many odd
 * lines.
 *
 * @throws {ThroughlineError} `PACKAGE_MISSING`, `TOO_MANY_GROUPS`
 */
export async function aggregateFiles(query: FilesAggregate): Promise<AggregateResult | undefined> {
  const { files, filter, aggregate, tally } = query
  const statement = statementOf(files, filter, aggregate)
  if (statement === undefined) return undefined
  const { connection, close } = await openDuckdb()
  try {
    const counted = countedOf(aggregate)
    const left = { [OPEN]: 0, [BROKEN]: 0 }
    for await (const row of rowsOf(connection, statement.groups, statement.parameters)) {
      const [kind, count, ...values] = row
      if (kind === OPEN || kind === BROKEN) left[kind] += Number(count)
      else counted.add(values, Number(count))
    }
    const lines = left[OPEN] + left[BROKEN]
    if (lines > MAX_LEFT) return undefined
    const texts = [
      ...(left[OPEN] > 0 ? await textsOf(connection, statement.open, statement.parameters) : []),
      ...(left[BROKEN] > 0 ? await textsOf(connection, brokenLines(files)) : []),
    ]
    if (texts.length !== lines) return undefined
    const read = { files: files.length, unreadableLines: 0 }
    for await (const line of readLines(asyncOf(texts), { filter, tally: read }))
      if (line.isFound) counted.addLine(line.entry)
    const result = counted.result()
    if (result === undefined) return undefined
    tally.files += read.files
    tally.unreadableLines += read.unreadableLines
    return result
  } catch (error) {
    if (TOO_LARGE.test(String(error))) return undefined
    throw error
  } finally {
    close()
  }
}

/** What a row counts: lines that are looked at here, lines that are no JSON to DuckDB, and those that are found. */
const OPEN = 'open'
const BROKEN = 'broken'
const FOUND = 'found'

interface Statement {
  /** Rows of a kind, a number of lines, and what they have in common. */
  groups: string
  /** The lines that are looked at here. */
  open: string
  /** Of both. */
  parameters: string[]
}

function statementOf(
  files: readonly string[],
  filter: Filter | undefined,
  aggregate: Aggregate,
): Statement | undefined {
  const { fields, condition, isOpen, isExact, values, parameters } = compileForDuckdb(
    filter,
    fieldsOf(aggregate),
  )
  if (!isExact) return undefined
  // What is not in the statement may not be bound.
  const pruning = pruningOf(files.some(isParquet) ? filter : undefined, parameters.length + 1)
  const lines = `SELECT json, ${fields} AS fields FROM (${linesOfFiles(files, pruning.condition)})`
  const kind = `CASE WHEN json IS NULL THEN '${BROKEN}'
    WHEN NOT ${IS_OBJECT} OR ${isOpen} THEN '${OPEN}'
    WHEN ${condition} THEN '${FOUND}' END`
  const columns = values.map((value, index) => `, CASE kind WHEN '${FOUND}' THEN ${value} END AS v${index}`)
  return {
    groups: groupsSql(
      aggregate,
      `SELECT kind${columns.join('')} FROM (SELECT *, ${kind} AS kind FROM (${lines})) WHERE kind IS NOT NULL`,
    ),
    open: `SELECT json::VARCHAR FROM (${lines}) WHERE ${kind} = '${OPEN}'`,
    parameters: [...parameters, ...pruning.parameters],
  }
}

/** Of each a column `v0`, `v1`, …: the JSON text, NULL where the line has none. */
function fieldsOf(aggregate: Aggregate): readonly FieldPath[] {
  if (aggregate.kind === 'histogram') return [[TIME_FIELD]]
  return aggregate.kind === 'count' ? aggregate.by : [...aggregate.by, aggregate.field]
}

function groupsSql(aggregate: Aggregate, lines: string): string {
  if (aggregate.kind === 'count') return `SELECT kind, count(*), * EXCLUDE kind FROM (${lines}) GROUP BY ALL`
  const last = aggregate.kind === 'histogram' ? 'v0' : `v${aggregate.by.length}`
  const number = `CASE WHEN regexp_matches(${last}, '^-?[0-9]') THEN try_cast(${last} AS DOUBLE) END`
  if (aggregate.kind === 'percentile')
    return `SELECT kind, count(*), quantile_disc(${number}, ${aggregate.percent / 100}), * EXCLUDE (kind, ${last})
      FROM (${lines}) WHERE kind <> '${FOUND}' OR ${number} IS NOT NULL GROUP BY ALL`
  // A time that is a text is left as it is.
  const start = `(floor(${number} / ${aggregate.bucketMs}) * ${aggregate.bucketMs})`
  return `SELECT kind, count(*), coalesce(${start}::BIGINT::VARCHAR, v0) FROM (${lines}) GROUP BY ALL`
}

/** What rows and lines are put together in. */
interface Counted {
  /** @param values JSON texts; of a percentile, after its number */
  add(values: readonly DuckDBValue[], count: number): void
  addLine(entry: LogEntry): void
  /** Undefined when rows cannot be put together. */
  result(): AggregateResult | undefined
}

function countedOf(aggregate: Aggregate): Counted {
  if (aggregate.kind === 'histogram') {
    const spans = new CountedSpans(aggregate.bucketMs)
    return {
      add: ([time], count) => spans.add(parsedOf(time), count),
      addLine: ({ time }) => spans.add(time),
      result: () => ({ kind: 'histogram', buckets: spans.all() }),
    }
  }
  if (aggregate.kind === 'count') {
    const groups = new CountedGroups()
    return {
      add: (values, count) => groups.add(values.map(groupOf), count),
      addLine: (entry) => groups.add(groupValues(entry, aggregate.by)),
      result: () => ({ kind: 'count', groups: groups.all() }),
    }
  }
  return countedPercentiles()
}

/** Percentiles of two groups make none of both, so each has to be whole. */
function countedPercentiles(): Counted {
  const groups = new Map<string, PercentileGroup>()
  let isWhole = true
  return {
    add([percentile, ...texts], count) {
      const values = texts.map(groupOf)
      const key = JSON.stringify(values)
      if (groups.has(key)) isWhole = false
      groups.set(key, { values, count, percentile: Number(percentile) })
    },
    addLine() {
      isWhole = false
    },
    result: () => (isWhole ? { kind: 'percentile', groups: byPercentile([...groups.values()]) } : undefined),
  }
}

function groupOf(json: DuckDBValue): string | undefined {
  return groupValue(parsedOf(json))
}

function parsedOf(json: DuckDBValue | undefined): unknown {
  return typeof json === 'string' ? JSON.parse(json) : undefined
}

async function* rowsOf(
  connection: DuckDBConnection,
  sql: string,
  parameters: string[] = [],
): AsyncGenerator<readonly DuckDBValue[]> {
  const result = await connection.stream(sql, parameters)
  for await (const rows of result.yieldRows()) yield* rows
}

async function textsOf(connection: DuckDBConnection, sql: string, parameters?: string[]): Promise<string[]> {
  const texts: string[] = []
  for await (const [text] of rowsOf(connection, sql, parameters)) texts.push(String(text))
  return texts
}

async function* asyncOf<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values
}
