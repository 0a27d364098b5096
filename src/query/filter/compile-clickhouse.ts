/**
 * A filter as a condition of ClickHouse on the table `otel_logs` of the OpenTelemetry Collector, whose attributes are
 * texts. It finds every row that the filter finds, and others where ClickHouse has another idea of what is alike: its
 * expressions are RE2's, its texts are in the order of bytes, its numbers are read less precisely. So what it answers
 * is filtered again with `matcherOf`. All that the filter says is bound: none of it stands in the statement.
 *
 * https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/clickhouseexporter
 */
import { LOG_FIELD } from '../../telemetry/names.js'
import type { FieldPath, Filter } from './ast.js'
import { type Bounds, boundsOf, type Leaf } from './bounds.js'
import { attributesOf, isInObject, type RecordField, recordFieldOf, severitiesFor } from './otel-fields.js'
import { rankOf } from './ranks.js'
import { caselessPattern } from './re2.js'

export interface ClickhouseCondition {
  /** With `{p1:String}`, `{p2:Float64}`, … */
  sql: string
  /** Of `p1`, `p2`, …: texts, as they are sent. */
  parameters: string[]
}

export function compileForClickhouse(filter: Filter): ClickhouseCondition {
  const condition = boundsOf(filter, leafBounds, { and: joined('AND'), or: joined('OR') }).holds
  const parameters: string[] = []
  const sql = condition?.((value) => {
    parameters.push(String(value))
    return `{p${parameters.length}:${typeof value === 'number' ? 'Float64' : 'String'}}`
  })
  return sql === undefined || parameters.length > MAX_PARAMETERS
    ? { sql: 'true', parameters: [] }
    : { sql, parameters }
}

/** A statement may be 256 KiB long, and 1000 deep: what is longer is asked for as a whole. */
const MAX_PARAMETERS = 400

type Bind = (value: string | number) => string
type Condition = (bind: Bind) => string

function joined(word: 'AND' | 'OR'): (left: Condition, right: Condition) => Condition {
  return (left, right) => (bind) => `(${left(bind)} ${word} ${right(bind)})`
}

const ANY: Bounds<Condition> = { holds: undefined, fails: undefined }

function exactly(condition: Condition): Bounds<Condition> {
  return { holds: condition, fails: (bind) => `NOT (${condition(bind)})` }
}

function atMost(condition: Condition): Bounds<Condition> {
  return { holds: condition, fails: undefined }
}

function leafBounds(leaf: Leaf): Bounds<Condition> {
  const record = recordFieldOf(leaf.field)
  if (record === 'time') return timeBounds(leaf)
  if (record === 'level') return levelBounds(leaf)
  // A record without a trace has no flags.
  if (record === 'flags') return leaf.kind === 'exists' ? exactly(() => "TraceId != ''") : ANY
  if (record !== undefined) return textBounds(leaf, columnText(COLUMNS[record]))
  const [first, second] = attributesOf(leaf.field)
  if (second === undefined && !isInObject(leaf.field)) return textBounds(leaf, attributeText(first))
  return objectBounds(leaf, [first, ...(second === undefined ? [] : [second])])
}

const COLUMNS: Readonly<Record<Exclude<RecordField, 'time' | 'level' | 'flags'>, string>> = {
  body: 'Body',
  service: 'ServiceName',
  traceId: 'TraceId',
  spanId: 'SpanId',
}

function timeBounds(leaf: Leaf): Bounds<Condition> {
  if (leaf.kind === 'exists') return exactly(() => 'true')
  const { field, comparison, value } = leaf
  const ms = rankOf(field, value)
  if (typeof ms !== 'number' || comparison === '~' || comparison === '~~') return ANY
  return exactly((bind) => `toUnixTimestamp64Milli(Timestamp) ${comparison} ${bind(ms)}`)
}

function levelBounds(leaf: Leaf): Bounds<Condition> {
  const { numbers, names } = severitiesFor(leaf)
  if (numbers.length === 0) return exactly(() => 'false')
  const byText = `lower(SeverityText) IN (${names.map((name) => `'${name}'`).join(', ')})`
  return exactly(
    () => `(SeverityNumber IN (${numbers.join(', ')}) OR SeverityNumber NOT BETWEEN 1 AND 24 AND ${byText})`,
  )
}

interface TextValue {
  /** Empty for a row without it. */
  text: Condition
  isThere: Condition
}

// A column is never absent: one that is empty is read as if it were.
function columnText(column: string): TextValue {
  return { text: () => column, isThere: () => `${column} != ''` }
}

function attributeText(name: string): TextValue {
  return {
    text: (bind) => `LogAttributes[${bind(name)}]`,
    isThere: (bind) => `mapContains(LogAttributes, ${bind(name)})`,
  }
}

function textBounds(leaf: Leaf, { text, isThere }: TextValue): Bounds<Condition> {
  if (leaf.kind === 'exists') return exactly(isThere)
  const { field, comparison, value } = leaf
  const wanted = rankOf(field, value)
  const both = joined('AND')
  switch (comparison) {
    case '~~':
      return atMost(isThere)
    case '~':
      return atMost(both(isThere, (bind) => `match(${text(bind)}, ${bind(caselessPattern(String(value)))})`))
    case '=':
    case '!=': {
      const isEqual = comparison === '='
      // None of the values is null.
      if (value === null) return exactly(isEqual ? () => 'false' : isThere)
      if (typeof wanted === 'number') return atMost(isEqual ? nearly(text, 'BETWEEN', wanted) : isThere)
      return exactly(both(isThere, (bind) => `${text(bind)} ${comparison} ${bind(String(value))}`))
    }
    default:
      if (wanted === undefined) return exactly(() => 'false')
      return atMost(typeof wanted === 'number' ? nearly(text, comparison, wanted) : isThere)
  }
}

/** More than ClickHouse is off by when it reads a number. */
const TOLERANCE = 1e-9

/** What it cannot read may be a number all the same, if it has a digit. */
function nearly(text: Condition, comparison: string, number: number): Condition {
  const margin = Math.abs(number) * TOLERANCE
  const [low, high] = [
    Math.max(number - margin, -Number.MAX_VALUE),
    Math.min(number + margin, Number.MAX_VALUE),
  ]
  return (bind) => {
    const bounds =
      comparison === 'BETWEEN'
        ? `BETWEEN ${bind(low)} AND ${bind(high)}`
        : comparison.startsWith('>')
          ? `>= ${bind(low)}`
          : `<= ${bind(high)}`
    return `ifNull(toFloat64OrNull(${text(bind)}) ${bounds}, match(${text(bind)}, '[0-9]'))`
  }
}

/** What may stand in one of two attributes, or be an object: an attribute for each of its parts. */
function objectBounds(leaf: Leaf, names: readonly string[]): Bounds<Condition> {
  const asTexts = names.map((name) => textBounds(leaf, attributeText(name)).holds as Condition)
  const isOfObjects = leaf.kind === 'exists' || OF_OBJECTS.has(leaf.comparison)
  const asObjects = isOfObjects ? prefixesOf(leaf.field, names).map(hasPrefix) : []
  return atMost([...asTexts, ...asObjects].reduce((left, right) => joined('OR')(left, right)))
}

/** No object equals a value, or is more or less than one. */
const OF_OBJECTS = new Set<string>(['!=', '~', '~~'])

function prefixesOf(field: FieldPath, names: readonly string[]): string[] {
  const prefixes = names.map((name) => `${name}.`)
  return field.join('.') === LOG_FIELD.error ? [...prefixes, 'exception.'] : prefixes
}

function hasPrefix(prefix: string): Condition {
  return (bind) => `arrayExists(name -> startsWith(name, ${bind(prefix)}), mapKeys(LogAttributes))`
}
