/**
 * A filter asked of a line's bytes, so that most lines need not be parsed: three times as fast as parsing all of them,
 * and never wrong, for what the bytes do not tell is left open.
 *
 *   no      whatever the line is as JSON, the filter does not match it
 *   maybe   parse it
 *   yes     it matches, if it is JSON
 *
 * What the bytes tell: a field is a name, a colon and a value, wherever it stands. A line that has no such name lacks
 * the field; where no value behind the name passes, the field does not pass. Names and values that are written with
 * escapes are left open.
 */
import type { FieldPath, Filter } from './ast.js'
import { testOf, type ValueTest } from './match.js'

type Verdict = 'no' | 'maybe' | 'yes'

export interface Sieve {
  /** The lines that follow are in this block, from its beginning to its end. */
  begin(block: Buffer): void
  /** False when the line surely does not match. */
  lets(start: number, end: number): boolean
}

/** Undefined when the filter leaves every line open. */
export function sieveOf(filter: Filter): Sieve | undefined {
  const searches: Search[] = []
  const root = judgeOf(filter, searches)
  if (root === OPEN) return undefined
  const escapes = new Search(Buffer.from('\\u'))
  return {
    begin(block) {
      escapes.begin(block)
      for (const search of searches) search.begin(block)
    },
    lets: (start, end) => root(start, end) !== 'no' || escapes.nextFrom(start) < end,
  }
}

/** Of the line between two offsets of the block. */
type Judge = (start: number, end: number) => Verdict

const OPEN: Judge = () => 'maybe'

function judgeOf(filter: Filter, searches: Search[]): Judge {
  switch (filter.kind) {
    case 'and':
    case 'or': {
      const [left, right] = [judgeOf(filter.left, searches), judgeOf(filter.right, searches)]
      const decisive = filter.kind === 'and' ? 'no' : 'yes'
      if (left === OPEN && right === OPEN) return OPEN
      return (start, end) => {
        const first = left(start, end)
        if (first === decisive) return first
        const second = right(start, end)
        return second === decisive || first !== 'maybe' ? second : first
      }
    }
    case 'not': {
      const judge = judgeOf(filter.of, searches)
      if (judge === OPEN) return OPEN
      return (start, end) => OPPOSITE[judge(start, end)]
    }
    case 'exists':
      return fieldJudge(filter.field, (value) => value !== undefined, searches)
    case 'in': {
      const tests = filter.values.map((value) => testOf(filter.field, '=', value))
      return fieldJudge(filter.field, (value) => tests.some((test) => test(value)), searches)
    }
    case 'compare':
      return fieldJudge(filter.field, testOf(filter.field, filter.comparison, filter.value), searches)
  }
}

const OPPOSITE: Record<Verdict, Verdict> = { no: 'yes', maybe: 'maybe', yes: 'no' }

/** Names that JSON can only write in one way, but for `\u`; a number may be a place in a list. */
const PLAIN_NAME = /^(?!\d+$)[\x20-\x7e]+$/
const ESCAPABLE = /["\\/]/

/** @param test false for undefined: a field that is not there passes no test */
function fieldJudge(field: FieldPath, test: ValueTest, searches: Search[]): Judge {
  const name = field.at(-1) ?? ''
  if (!PLAIN_NAME.test(name) || ESCAPABLE.test(name)) return OPEN
  // Without the quote before it: some loggers write `a.b` as one name.
  const search = new Search(Buffer.from(`${name}"`))
  searches.push(search)
  return (start, end) => {
    let fields = 0
    let passes = false
    let isSure = false
    for (let at = search.nextFrom(start); at < end; at = search.nextFrom(at + 1)) {
      const value = valueBehind(search, at, end)
      if (value === NO_FIELD) continue
      fields += 1
      passes ||= value === UNKNOWN || test(value)
      // The first name of a line is surely a field of its own, unless a later one replaces it.
      const isFirst = field.length === 1 && at === start + 2 && search.block[start] === OPENING_BRACE
      isSure = fields === 1 && isFirst && value !== UNKNOWN
    }
    if (!passes) return 'no'
    return isSure ? 'yes' : 'maybe'
  }
}

/** The places of a text in a block, asked for in ascending order. */
class Search {
  block: Buffer = Buffer.alloc(0)
  readonly needle: Buffer
  #next = -1

  constructor(needle: Buffer) {
    this.needle = needle
  }

  begin(block: Buffer): void {
    this.block = block
    this.#next = -1
  }

  /** Infinity when there is none. */
  nextFrom(offset: number): number {
    if (this.#next < offset) {
      const found = this.block.indexOf(this.needle, offset)
      this.#next = found === -1 ? Number.POSITIVE_INFINITY : found
    }
    return this.#next
  }
}

/** A list, an object, a text with escapes: it is left open. */
const UNKNOWN = Symbol('unknown')
/** The text stands there, but names no field. */
const NO_FIELD = Symbol('no field')

const [TAB, LINE_FEED, CARRIAGE_RETURN, SPACE] = [0x09, 0x0a, 0x0d, 0x20]
const [QUOTE, COMMA, ZERO, NINE, COLON] = [0x22, 0x2c, 0x30, 0x39, 0x3a]
const [BACKSLASH, CLOSING_BRACKET] = [0x5c, 0x5d]
const [LOWER_F, LOWER_N, LOWER_T, OPENING_BRACE, CLOSING_BRACE] = [0x66, 0x6e, 0x74, 0x7b, 0x7d]

function valueBehind({ block, needle }: Search, at: number, end: number): unknown {
  let offset = skipSpace(block, at + needle.length, end)
  if (block[offset] !== COLON || offset >= end) return NO_FIELD
  offset = skipSpace(block, offset + 1, end)
  switch (block[offset]) {
    case QUOTE:
      return textAt(block, offset + 1, end)
    case LOWER_T:
      return true
    case LOWER_F:
      return false
    case LOWER_N:
      return null
    default:
      return numberAt(block, offset, end)
  }
}

function skipSpace(block: Buffer, from: number, end: number): number {
  let offset = from
  for (; offset < end; offset += 1) {
    const byte = block[offset]
    if (byte !== SPACE && byte !== TAB && byte !== CARRIAGE_RETURN && byte !== LINE_FEED) break
  }
  return offset
}

function textAt(block: Buffer, start: number, end: number): unknown {
  for (let offset = start; offset < end; offset += 1) {
    const byte = block[offset] ?? 0
    if (byte === QUOTE) return block.toString('latin1', start, offset)
    if (byte === BACKSLASH || byte > 0x7e) return UNKNOWN
  }
  return UNKNOWN
}

/** Whole numbers of so many digits are exact. */
const EXACT_DIGITS = 15

const NUMBER_END = new Set([COMMA, CLOSING_BRACE, CLOSING_BRACKET, SPACE])

function numberAt(block: Buffer, start: number, end: number): unknown {
  let value = 0
  let isWhole = true
  let offset = start
  for (; offset < end; offset += 1) {
    const byte = block[offset] ?? 0
    if (byte >= ZERO && byte <= NINE) value = value * 10 + byte - ZERO
    else if (NUMBER_END.has(byte)) break
    else isWhole = false
  }
  if (isWhole && offset > start && offset - start <= EXACT_DIGITS) return value
  const number = Number(block.toString('latin1', start, offset))
  return offset === start || Number.isNaN(number) ? UNKNOWN : number
}
