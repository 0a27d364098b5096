/**
 * What the text of a JSON line must have for a comparison to hold, as regular expressions of RE2, so that lines are
 * found without being parsed. Loki's own `json` stage will not do: of a name that stands twice it takes the first
 * value, and `JSON.parse` the last (pino writes such lines), and what is missing is to it what is empty.
 *
 * Taken for granted: numbers, letters of ASCII and the escapes of control characters stand in a line as
 * `JSON.stringify` writes them. White space, and which other characters are escaped, may be as anyone likes.
 */
import { type Comparison, type FieldPath, type Literal, TIME_FIELD } from './ast.js'
import type { Leaf } from './bounds.js'
import { isField, rankOf } from './ranks.js'
import { caselessPattern, characterPattern } from './re2.js'

/** A pattern, and a text that each line has that matches it, where one is known: it is looked for faster. */
export interface LinePattern {
  pattern: string
  text?: string
}

/** The line must match each. */
export function jsonLinePatterns(leaf: Leaf): LinePattern[] {
  const key = keyPattern(leaf.field)
  if (leaf.kind === 'exists' || key.isOfParent) return [{ pattern: key.pattern }]
  return patternsOf(leaf.field, key.pattern, leaf.comparison, leaf.value)
}

function patternsOf(field: FieldPath, key: string, comparison: Comparison, literal: Literal): LinePattern[] {
  switch (comparison) {
    case '!=':
    case '~~':
      return [{ pattern: key }]
    case '~': {
      const parts = partsOf(String(literal)).map((part) => caselessPattern(part, jsonCharacter))
      return [key, ...parts].map((pattern) => ({ pattern }))
    }
    case '=':
      return [{ pattern: `${key}${equalValue(field, literal)}`, ...textOfEqual(field, literal) }]
    default: {
      // Between two times Loki looks by itself.
      if (isField(field, TIME_FIELD)) return []
      const bound = rankOf(field, literal)
      const value = typeof bound === 'number' ? `(?:"|${numberPattern(comparison, bound)})` : '"'
      return [{ pattern: `${key}${value}` }]
    }
  }
}

function textOfEqual(field: FieldPath, literal: Literal): { text?: string } {
  const isPlain = typeof literal === 'string' && /^[\w.:=@ -]+$/.test(literal)
  return isPlain && typeof rankOf(field, literal) === 'string' ? { text: literal } : {}
}

/** The name, and the colon after it. Of `a.b` it is `b`, or `a.b` as one name. */
function keyPattern(field: FieldPath): { pattern: string; isOfParent: boolean } {
  const [last = '', ...before] = field.toReversed()
  if (before.length === 0) return { pattern: named(jsonText(last)), isOfParent: false }
  const parents = before.toReversed() as unknown as FieldPath
  const flat = jsonText(`${parents.join('.')}.`)
  // An element of a list bears no name.
  if (/^\d+$/.test(last)) {
    const parent = keyPattern(parents).pattern
    return { pattern: `${parent}|${named(flat + jsonText(last))}`, isOfParent: true }
  }
  return { pattern: named(`(?:${flat})?${jsonText(last)}`), isOfParent: false }
}

function named(pattern: string): string {
  return `"${pattern}"\\s*:\\s*`
}

/** After it a number ends. */
const NUMBER_END = '(?:[^0-9]|$)'

function equalValue(field: FieldPath, literal: Literal): string {
  if (literal === null) return 'null'
  const wanted = rankOf(field, literal)
  if (typeof wanted !== 'number') {
    const text = jsonText(String(literal))
    // What is true may be written as "true".
    return /^(?:true|false)$/.test(String(literal)) ? `"?${text}` : `"${text}"`
  }
  if (!Number.isSafeInteger(wanted)) return '["0-9-]'
  // A text that is a number, a level or a moment may be written in many ways; one of digits alone, without a 0 before
  // them, in one.
  return `(?:${wanted}${NUMBER_END}|"(?:${wanted}"|-?0|[^"]*[^0-9"-]|[^"]+-))`
}

/** Numbers for which the comparison may hold. */
function numberPattern(comparison: Comparison, bound: number): string {
  const isAtLeast = comparison === '>' || comparison === '>='
  const whole = isAtLeast ? Math.floor(bound) : Math.ceil(bound)
  if (!Number.isSafeInteger(whole)) return '[0-9-]'
  const withExponent = '-?[0-9][0-9.]*e'
  if (isAtLeast) return whole <= 0 ? '[0-9-]' : `${withExponent}|${atLeast(String(whole))}`
  return whole < 0 ? '-' : `-|${withExponent}|${atMost(String(whole))}`
}

/** Of 250: `[3-9]..`, `2[6-9].`, `25[1-9]`, `250`, or four digits. */
function atLeast(digits: string): string {
  const greater = alternatives(digits, (digit) => (digit === 9 ? undefined : [digit + 1, 9]))
  return [`[0-9]{${digits.length + 1}}`, ...greater, digits].join('|')
}

/** Of 250: `[0-1]..`, `2[0-4].`, `250`, or two digits; and no digit after them. */
function atMost(digits: string): string {
  const less = alternatives(digits, (digit) => (digit === 0 ? undefined : [0, digit - 1]))
  const shorter = digits.length === 1 ? [] : [`[0-9]{1,${digits.length - 1}}`]
  return `(?:${[...shorter, ...less, digits].join('|')})${NUMBER_END}`
}

function alternatives(digits: string, rangeOf: (digit: number) => [number, number] | undefined): string[] {
  return [...digits].flatMap((digit, index) => {
    const range = rangeOf(Number(digit))
    const after = digits.length - index - 1
    if (range === undefined) return []
    return [`${digits.slice(0, index)}[${range[0]}-${range[1]}]${after === 0 ? '' : `[0-9]{${after}}`}`]
  })
}

/** More parts would cost more than they narrow. */
const MAX_PARTS = 3

/**
 * The parts of a text that stand in the line as they are, wherever the text is found in a value: what may be JSON's
 * own, between them, may have other space around it.
 */
function partsOf(text: string): string[] {
  return text
    .split(/["\\:,{}[\]\p{Cc}]+/u)
    .filter((part) => part.length > 1)
    .sort((a, b) => b.length - a.length)
    .slice(0, MAX_PARTS)
}

function jsonText(text: string): string {
  return [...text].map(jsonCharacter).join('')
}

/** A character in a string of JSON: as it is, or escaped. */
function jsonCharacter(character: string): string {
  if (character === '/') return '\\\\?/'
  if (/^[ -~]$/.test(character) && !/^["\\<>&'+]$/.test(character)) return characterPattern(character)
  const escapes = '(?:\\\\(?:u[0-9a-fA-F]{4}|.))+'
  return /^["\\\p{Cc}\p{Cs}]$/u.test(character) ? escapes : `(?:${characterPattern(character)}|${escapes})`
}
