/** A filter asked of one line. Pure. */
import type { Comparison, FieldPath, Filter, Literal } from './ast.js'
import { rankOf } from './ranks.js'

/** A line, parsed: its fields, nested ones too. */
export type LogEntry = Readonly<Record<string, unknown>>

/** Prepares a filter: its patterns are compiled once. */
export function matcherOf(filter: Filter): (entry: LogEntry) => boolean {
  switch (filter.kind) {
    case 'and': {
      const [left, right] = [matcherOf(filter.left), matcherOf(filter.right)]
      return (entry) => left(entry) && right(entry)
    }
    case 'or': {
      const [left, right] = [matcherOf(filter.left), matcherOf(filter.right)]
      return (entry) => left(entry) || right(entry)
    }
    case 'not': {
      const matches = matcherOf(filter.of)
      return (entry) => !matches(entry)
    }
    case 'exists':
      return (entry) => valueAt(entry, filter.field) !== undefined
    case 'in': {
      const tests = filter.values.map((value) => testOf(filter.field, '=', value))
      return (entry) => tests.some((test) => test(valueAt(entry, filter.field)))
    }
    case 'compare': {
      const test = testOf(filter.field, filter.comparison, filter.value)
      return (entry) => test(valueAt(entry, filter.field))
    }
  }
}

/** Undefined where the line has no such field. A name with dots is found as one, too: some loggers write `a.b`. */
export function valueAt(entry: LogEntry, path: FieldPath): unknown {
  let value: unknown = entry
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !hasField(value, name))
      return path.length > 1 ? flatValueAt(entry, path) : undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

/** Of a list its numbers alone: `length` is none of its fields. */
function hasField(value: object, name: string): boolean {
  return Object.hasOwn(value, name) && !(Array.isArray(value) && name === 'length')
}

function flatValueAt(entry: LogEntry, path: FieldPath): unknown {
  const name = path.join('.')
  return Object.hasOwn(entry, name) ? entry[name] : undefined
}

/** Of a field's value: undefined where the line lacks it, which passes none. */
export type ValueTest = (value: unknown) => boolean

export function testOf(field: FieldPath, comparison: Comparison, literal: Literal): ValueTest {
  if (comparison === '~') {
    const wanted = String(literal).toLowerCase()
    return (value) => textOf(value)?.toLowerCase().includes(wanted) ?? false
  }
  if (comparison === '~~') {
    const pattern = new RegExp(String(literal), 'u')
    return (value) => {
      const text = textOf(value)
      return text !== undefined && pattern.test(text)
    }
  }
  if (comparison === '=') return (value) => isEqual(field, value, literal)
  if (comparison === '!=') return (value) => value !== undefined && !isEqual(field, value, literal)
  const bound = rankOf(field, literal)
  return (value) => {
    const rank = rankOf(field, value)
    if (typeof rank === 'number' && typeof bound === 'number') return ordered(rank, comparison, bound)
    return typeof rank === 'string' && typeof bound === 'string' && ordered(rank, comparison, bound)
  }
}

function isEqual(field: FieldPath, value: unknown, literal: Literal): boolean {
  if (value === undefined) return false
  if (value === null || literal === null) return value === literal
  const [rank, wanted] = [rankOf(field, value), rankOf(field, literal)]
  if (typeof rank === 'number' && typeof wanted === 'number') return rank === wanted
  // A status may be written as 500 or "500".
  return typeof value !== 'object' && String(value) === String(literal)
}

function ordered<T extends number | string>(left: T, comparison: Comparison, right: T): boolean {
  if (comparison === '<') return left < right
  if (comparison === '<=') return left <= right
  return comparison === '>' ? left > right : left >= right
}

/** Objects as JSON: `err ~ 'timeout'` looks into all of it. */
function textOf(value: unknown): string | undefined {
  if (value === undefined) return undefined
  return typeof value === 'string' ? value : JSON.stringify(value)
}
