/**
 * A filter as a condition of DuckDB on a column `json` of lines, which answers as `matcherOf` does. All that the filter
 * says is bound: none of it stands in the statement.
 */
import {
  type Comparison,
  type FieldPath,
  type Filter,
  LEVEL_FIELD,
  LEVELS,
  type Literal,
  TIME_FIELD,
} from './ast.js'
import { isField, NUMBER_TEXT, rankOf, TIME_TEXT } from './ranks.js'

export interface CompiledFilter {
  /** With `$1`, `$2`, … */
  sql: string
  parameters: string[]
}

export function compileForDuckdb(filter: Filter): CompiledFilter {
  const parameters: string[] = []
  const bind = (value: string | number): string => {
    // Numbers as texts too: the binding takes one that is whole for an integer, which may be too large for it.
    parameters.push(String(value))
    return typeof value === 'number'
      ? `$${parameters.length}::VARCHAR::DOUBLE`
      : `$${parameters.length}::VARCHAR`
  }
  return { sql: conditionOf(filter, bind), parameters }
}

type Bind = (value: string | number) => string

function conditionOf(filter: Filter, bind: Bind): string {
  switch (filter.kind) {
    case 'and':
    case 'or':
      return `(${conditionOf(filter.left, bind)} ${filter.kind.toUpperCase()} ${conditionOf(filter.right, bind)})`
    case 'not':
      return `(NOT ${conditionOf(filter.of, bind)})`
    case 'exists':
      return `(${valueAt(filter.field, bind)} IS NOT NULL)`
    case 'in':
      return `(${filter.values.map((value) => comparisonOf(filter.field, '=', value, bind)).join(' OR ')})`
    case 'compare':
      return comparisonOf(filter.field, filter.comparison, filter.value, bind)
  }
}

/** Never NULL: there is no third truth. */
function comparisonOf(field: FieldPath, comparison: Comparison, literal: Literal, bind: Bind): string {
  const bound = rankOf(field, literal)
  // Neither true nor null is more or less than anything; nothing may be bound for it.
  if (bound === undefined && ORDERINGS.has(comparison)) return 'false'
  const value = valueAt(field, bind)
  if (comparison === '~')
    return `coalesce(contains(lower(${shownText(value)}), ${bind(String(literal).toLowerCase())}), false)`
  if (comparison === '~~')
    return `coalesce(regexp_matches(${shownText(value)}, ${bind(String(literal))}), false)`
  if (comparison === '=') return `coalesce(${equalityOf(field, value, literal, bind)}, false)`
  if (comparison === '!=')
    return `(${value} IS NOT NULL AND NOT coalesce(${equalityOf(field, value, literal, bind)}, false))`
  if (typeof bound === 'number')
    return `coalesce(${numberIn(field, value)} ${comparison} ${bind(bound)}, false)`
  const isText = `json_type(${value}) = 'VARCHAR' AND ${numberIn(field, value)} IS NULL`
  return `coalesce(${isText} AND ${textIn(value)} ${comparison} ${bind(bound ?? '')}, false)`
}

const ORDERINGS = new Set<Comparison>(['<', '<=', '>', '>='])

function equalityOf(field: FieldPath, value: string, literal: Literal, bind: Bind): string {
  if (literal === null) return `json_type(${value}) = 'NULL'`
  const wanted = rankOf(field, literal)
  if (typeof wanted === 'number') return `${numberIn(field, value)} = ${bind(wanted)}`
  return `json_type(${value}) IN ('VARCHAR', 'BOOLEAN') AND ${textIn(value)} = ${bind(String(literal))}`
}

/** NULL where the line has no such field. */
function valueAt(path: FieldPath, bind: Bind): string {
  const nested = `json_extract(json, ${bind(pointerTo(path))})`
  // Some loggers write `a.b` as one name.
  return path.length === 1
    ? nested
    : `coalesce(${nested}, json_extract(json, ${bind(pointerTo([path.join('.')]))}))`
}

/** https://www.rfc-editor.org/rfc/rfc6901 */
function pointerTo(path: readonly string[]): string {
  return path.map((name) => `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}

function textIn(value: string): string {
  return `(${value} ->> '$')`
}

/** Texts as they are, all else as JSON. */
function shownText(value: string): string {
  return `CASE json_type(${value}) WHEN 'VARCHAR' THEN ${textIn(value)} ELSE ${value}::VARCHAR END`
}

const LEVEL_NUMBERS = Object.entries(LEVELS)
  .map(([name, number]) => `WHEN '${name}' THEN ${number}`)
  .join(' ')

function numberIn(field: FieldPath, value: string): string {
  const text = textIn(value)
  const number = `CASE WHEN regexp_full_match(${text}, '${NUMBER_TEXT}') AND isfinite(try_cast(trim(${text}, ' \t\r\n') AS DOUBLE)) THEN try_cast(trim(${text}, ' \t\r\n') AS DOUBLE) END`
  const ofText = isField(field, LEVEL_FIELD)
    ? `coalesce(CASE lower(${text}) ${LEVEL_NUMBERS} END, ${number})`
    : isField(field, TIME_FIELD)
      ? `coalesce(CASE WHEN regexp_full_match(${text}, '${TIME_TEXT}') THEN epoch_ms(try_cast(${text} AS TIMESTAMPTZ)) END, ${number})`
      : number
  return `(CASE WHEN json_type(${value}) IN ('UBIGINT', 'BIGINT', 'UHUGEINT', 'HUGEINT', 'DOUBLE') THEN try_cast(${text} AS DOUBLE) WHEN json_type(${value}) = 'VARCHAR' THEN ${ofText} END)`
}
