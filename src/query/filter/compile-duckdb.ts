/**
 * A filter as a condition of DuckDB on lines, which answers as `matcherOf` does. All that the filter says is bound: none
 * of it stands in the statement.
 *
 * A line is parsed once for all fields together: the list `fields` has their values as JSON texts. What DuckDB would
 * answer in another way is left to JavaScript. Of a line, `isOpen` says so. Of a comparison (a regular expression, for
 * RE2 knows others than JavaScript) `isExact` does, and the condition then finds too much rather than too little.
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
import { fieldsOf } from './fields.js'
import { isField, NUMBER_TEXT, rankOf, TIME_TEXT } from './ranks.js'

/** Expressions with `$1`, `$2`, …, in one numbering. None is ever NULL but the values. */
export interface CompiledFilter {
  /** The list `fields`, out of a column `json` of type JSON. */
  fields: string
  /** Out of `fields`. */
  condition: string
  /** Out of `json` and `fields`: JavaScript has to say whether the line matches, and what its values are. */
  isOpen: string
  /** False where the condition also holds for lines that do not match. */
  isExact: boolean
  /** Out of `fields`: JSON texts of the other fields that were asked for; NULL where the line has none. */
  values: string[]
  parameters: string[]
}

/** @param filter undefined finds every line */
export function compileForDuckdb(
  filter: Filter | undefined,
  others: readonly FieldPath[] = [],
): CompiledFilter {
  const scope = new Scope()
  const condition = filter === undefined ? 'true' : conditionOf(filter, false, scope)
  const values = others.map((field) => scope.valueAt(field))
  const fields = [...(filter === undefined ? [] : fieldsOf(filter)), ...others]
  // A name that stands twice: JavaScript takes the last of them, DuckDB the first.
  const names = new Set(fields.flatMap((path) => [path[0], path.at(-1) ?? '', path.join('.')]))
  for (const name of names) scope.open.push(standsTwice(JSON.stringify(name), scope))
  return {
    fields: scope.fields(),
    condition,
    isOpen: scope.open.length === 0 ? 'false' : `(${scope.open.join(' OR ')})`,
    isExact: scope.isExact,
    values,
    parameters: scope.parameters,
  }
}

/** LIKE takes `_` and `%` for any characters and is slow then: the longest part without them is looked for first. */
function standsTwice(text: string, scope: Scope): string {
  const parts = text.split(/[_%]/).sort((a, b) => b.length - a.length)
  const looked = parts.length === 1 ? [text] : [parts[0], text]
  const twice = looked.map((part) => `coalesce(json::VARCHAR LIKE ${scope.bind(`%${part}%${part}%`)}, false)`)
  return `(${twice.join(' AND ')})`
}

/** What a statement collects while it is written. */
class Scope {
  readonly parameters: string[] = []
  readonly open: string[] = []
  isExact = true
  readonly #pointers: string[] = []

  /** Numbers as texts too: the binding takes one that is whole for an integer, which may be too large for it. */
  bind(value: string | number): string {
    this.parameters.push(String(value))
    const type = typeof value === 'number' ? 'VARCHAR::DOUBLE' : 'VARCHAR'
    return `$${this.parameters.length}::${type}`
  }

  /** NULL where the line has no such field. */
  valueAt(path: FieldPath): string {
    const nested = this.#element(path)
    // Some loggers write `a.b` as one name.
    return path.length === 1 ? nested : `coalesce(${nested}, ${this.#element([path.join('.')])})`
  }

  fields(): string {
    if (this.#pointers.length === 0) return '[]::VARCHAR[]'
    const pointers = this.#pointers.map((pointer) => this.bind(pointer)).join(', ')
    return `json_extract(json, [${pointers}])::VARCHAR[]`
  }

  #element(path: readonly string[]): string {
    const pointer = pointerTo(path)
    if (!this.#pointers.includes(pointer)) this.#pointers.push(pointer)
    return `fields[${this.#pointers.indexOf(pointer) + 1}]`
  }
}

/** https://www.rfc-editor.org/rfc/rfc6901 */
function pointerTo(path: readonly string[]): string {
  return path.map((name) => `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
}

function conditionOf(filter: Filter, isNegated: boolean, scope: Scope): string {
  switch (filter.kind) {
    case 'and':
    case 'or':
      return `(${conditionOf(filter.left, isNegated, scope)} ${filter.kind.toUpperCase()} ${conditionOf(filter.right, isNegated, scope)})`
    case 'not':
      return `(NOT ${conditionOf(filter.of, !isNegated, scope)})`
    case 'exists':
      return `(${scope.valueAt(filter.field)} IS NOT NULL)`
    // An IN of five values or more would be planned as a join, which loses the order of the lines.
    case 'in':
      return `(${filter.values.map((value) => comparisonOf(filter.field, '=', value, scope)).join(' OR ')})`
    case 'compare':
      if (filter.comparison !== '~~')
        return comparisonOf(filter.field, filter.comparison, filter.value, scope)
      scope.isExact = false
      return isNegated ? 'false' : 'true'
  }
}

/** Never NULL: there is no third truth. */
function comparisonOf(field: FieldPath, comparison: Comparison, literal: Literal, scope: Scope): string {
  const bound = rankOf(field, literal)
  // Neither true nor null is more or less than anything; nothing may be bound for it.
  if (bound === undefined && ORDERINGS.has(comparison)) return 'false'
  const value = scope.valueAt(field)
  if (comparison === '~') {
    // What is no text is compared as JavaScript prints it.
    scope.open.push(`coalesce(NOT ${isText(value)}, false)`)
    const wanted = scope.bind(String(literal).toLowerCase())
    return `coalesce(contains(lower(${textIn(value)}), ${wanted}), false)`
  }
  if (comparison === '=') return `coalesce(${equalityOf(field, value, literal, scope)}, false)`
  if (comparison === '!=')
    return `(${value} IS NOT NULL AND NOT coalesce(${equalityOf(field, value, literal, scope)}, false))`
  if (typeof bound === 'number')
    return `coalesce(${numberIn(field, value)} ${comparison} ${scope.bind(bound)}, false)`
  const text = textIn(value)
  return `coalesce(${isText(value)} AND ${numberInText(field, text)} IS NULL AND ${text} ${comparison} ${scope.bind(bound ?? '')}, false)`
}

const ORDERINGS = new Set<Comparison>(['<', '<=', '>', '>='])

function equalityOf(field: FieldPath, value: string, literal: Literal, scope: Scope): string {
  if (literal === null) return `${value} = 'null'`
  const wanted = rankOf(field, literal)
  if (typeof wanted === 'number') return `${numberIn(field, value)} = ${scope.bind(wanted)}`
  const text = String(literal)
  const words = [`${value} = ${scope.bind(JSON.stringify(text))}`]
  if (text === 'true' || text === 'false') words.push(`${value} = '${text}'`)
  // Written with escapes.
  words.push(
    `CASE WHEN ${isText(value)} AND contains(${value}, '\\') THEN ${textIn(value)} = ${scope.bind(text)} END`,
  )
  return `(${words.join(' OR ')})`
}

function isText(value: string): string {
  return `starts_with(${value}, '"')`
}

/** Of a text. */
function textIn(value: string): string {
  return `CASE WHEN ${isText(value)} THEN (${value}::JSON ->> '$') END`
}

const LEVEL_NUMBERS = Object.entries(LEVELS)
  .map(([name, number]) => `WHEN '${name}' THEN ${number}`)
  .join(' ')

/** A JSON text as a number: of levels and moments, as they are ranked. NULL where it is none. */
export function numberIn(field: FieldPath, value: string): string {
  const text = `(${value}::JSON ->> '$')`
  return `CASE WHEN ${isText(value)} THEN ${numberInText(field, text)} ELSE try_cast(${value} AS DOUBLE) END`
}

function numberInText(field: FieldPath, text: string): string {
  const double = `try_cast(trim(${text}, ' \t\r\n') AS DOUBLE)`
  const number = `CASE WHEN regexp_full_match(${text}, '${NUMBER_TEXT}') AND isfinite(${double}) THEN ${double} END`
  if (isField(field, LEVEL_FIELD)) return `coalesce(CASE lower(${text}) ${LEVEL_NUMBERS} END, ${number})`
  if (!isField(field, TIME_FIELD)) return number
  // DuckDB refuses a zone behind minutes; and JavaScript leaves out what is less than a millisecond.
  const whole = `regexp_replace(${text}, '^(.{16})([Z+-]|$)', '\\1:00\\2')`
  const ms = `floor(epoch_us(try_cast(${whole} AS TIMESTAMPTZ)) / 1000)`
  const moment = `CASE WHEN regexp_full_match(${text}, '${TIME_TEXT}') THEN ${ms} END`
  return `coalesce(${moment}, ${number})`
}
