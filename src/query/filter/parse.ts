/** The filter language: text to tree, by recursive descent. `or` binds weakest, then `and`, then `not`. */
import { COMPARISONS, type Comparison, type FieldPath, type Filter, type Literal } from './ast.js'
import { FilterSyntaxError } from './syntax-error.js'
import { type Token, tokensOf } from './tokens.js'

/** Deeper than that is no question that anyone asked. */
const MAX_DEPTH = 200

/** @throws {FilterSyntaxError} saying where, and what was expected. */
export function parseFilter(source: string): Filter {
  const parser = new Parser(source)
  const filter = parser.either(0)
  parser.finish()
  return filter
}

/** The name of a field, as a filter has it. @throws {FilterSyntaxError} */
export function parseField(source: string): FieldPath {
  const parser = new Parser(source)
  const field = parser.field()
  parser.finish()
  return field
}

class Parser {
  readonly #source: string
  readonly #tokens: readonly Token[]
  #next = 0

  constructor(source: string) {
    this.#source = source
    this.#tokens = tokensOf(source)
  }

  finish(): void {
    if (this.#peek().kind !== 'end') throw this.#expected("'and', 'or' or the end")
  }

  either(depth: number): Filter {
    let filter = this.#both(depth)
    while (this.#takeWord('or')) filter = { kind: 'or', left: filter, right: this.#both(depth) }
    return filter
  }

  #both(depth: number): Filter {
    let filter = this.#negated(depth)
    while (this.#takeWord('and')) filter = { kind: 'and', left: filter, right: this.#negated(depth) }
    return filter
  }

  #negated(depth: number): Filter {
    if (depth > MAX_DEPTH) throw this.#expected('fewer parentheses')
    if (this.#takeWord('not')) return { kind: 'not', of: this.#negated(depth + 1) }
    if (this.#takeSymbol('(')) {
      const filter = this.either(depth + 1)
      this.#need(')')
      return filter
    }
    return this.#comparison()
  }

  #comparison(): Filter {
    if (this.#peek().text === 'exists' && this.#peek(1).text === '(' && this.#peek().kind === 'word') {
      this.#next += 2
      const field = this.field()
      this.#need(')')
      return { kind: 'exists', field }
    }
    const field = this.field()
    if (this.#takeWord('in')) return { kind: 'in', field, values: this.#list() }
    if (this.#peek().kind === 'word' && this.#peek().text === 'not' && this.#peek(1).text === 'in') {
      this.#next += 2
      return { kind: 'not', of: { kind: 'in', field, values: this.#list() } }
    }
    const comparison = this.#peek().text
    if (this.#peek().kind !== 'symbol' || !isComparison(comparison))
      throw this.#expected(`${COMPARISONS.join(' ')} or 'in'`)
    this.#next += 1
    const value = this.#value()
    if (comparison === '~~') this.#assertPattern(value)
    return { kind: 'compare', field, comparison, value }
  }

  /** `a.b`, or in backticks what is no word: `` `a b`.c ``. */
  field(): FieldPath {
    const path: string[] = []
    do {
      const token = this.#peek()
      if (token.kind === 'field') path.push(token.text)
      else if (token.kind === 'word' && !isKeyword(token.text)) path.push(...token.text.split('.'))
      else throw this.#expected('the name of a field')
      this.#next += 1
    } while (this.#takeSymbol('.'))
    return path as unknown as FieldPath
  }

  #list(): [Literal, ...Literal[]] {
    this.#need('(')
    const values: [Literal, ...Literal[]] = [this.#value()]
    while (this.#takeSymbol(',')) values.push(this.#value())
    this.#need(')')
    return values
  }

  #value(): Literal {
    const token = this.#peek()
    if (token.kind === 'end' || token.kind === 'symbol' || token.kind === 'field')
      throw this.#expected('a value: a word, a number, or a text in quotes')
    if (token.kind === 'word' && isKeyword(token.text))
      throw this.#expected(`a value; in quotes, '${token.text}' is one`)
    this.#next += 1
    if (token.kind === 'number') return token.value
    if (token.kind === 'text') return token.text
    return WORD_VALUES.has(token.text) ? (WORD_VALUES.get(token.text) as Literal) : token.text
  }

  #assertPattern(value: Literal): void {
    try {
      new RegExp(String(value), 'u')
    } catch {
      this.#next -= 1
      throw this.#expected('a regular expression')
    }
  }

  #peek(ahead = 0): Token {
    return (this.#tokens[this.#next + ahead] ?? this.#tokens.at(-1)) as Token
  }

  #takeWord(word: string): boolean {
    const { kind, text } = this.#peek()
    const isThere = kind === 'word' && text === word
    if (isThere) this.#next += 1
    return isThere
  }

  #takeSymbol(symbol: string): boolean {
    const { kind, text } = this.#peek()
    const isThere = kind === 'symbol' && text === symbol
    if (isThere) this.#next += 1
    return isThere
  }

  #need(symbol: string): void {
    if (!this.#takeSymbol(symbol)) throw this.#expected(`'${symbol}'`)
  }

  #expected(what: string): FilterSyntaxError {
    const { at, end } = this.#peek()
    return new FilterSyntaxError(this.#source, at, Math.max(end, at + 1), what)
  }
}

const WORD_VALUES = new Map<string, Literal>([
  ['true', true],
  ['false', false],
  ['null', null],
])

const KEYWORDS = new Set(['and', 'or', 'not', 'in'])

export function isKeyword(word: string): boolean {
  return KEYWORDS.has(word)
}

function isComparison(text: string): text is Comparison {
  return (COMPARISONS as readonly string[]).includes(text)
}
