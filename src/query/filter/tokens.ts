/** A filter's text as words, with where each stands. */
import { FilterSyntaxError } from './syntax-error.js'

export type Token =
  | { kind: 'word' | 'text' | 'field'; text: string; at: number; end: number }
  | { kind: 'number'; value: number; text: string; at: number; end: number }
  | { kind: 'symbol'; text: string; at: number; end: number }
  | { kind: 'end'; text: ''; at: number; end: number }

const SPACE = /\s*/y
const NUMBER = /-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?(?![\p{L}\p{N}_$@:/.-])/iuy
const WORD = /[\p{L}\p{N}_$@/:*+%#[\]-]+(?:\.[\p{L}\p{N}_$@/:*+%#[\]-]+)*/uy
const SYMBOL = /~~|!=|<=|>=|[=<>~(),.]/y

/** @throws {FilterSyntaxError} for a character that begins nothing, or a quote that is not closed. */
export function tokensOf(source: string): Token[] {
  const tokens: Token[] = []
  for (let at = skipSpace(source, 0); at < source.length; at = skipSpace(source, tokens.at(-1)?.end ?? 0))
    tokens.push(tokenAt(source, at))
  tokens.push({ kind: 'end', text: '', at: source.length, end: source.length })
  return tokens
}

function tokenAt(source: string, at: number): Token {
  const quote = source[at]
  if (quote === "'" || quote === '"' || quote === '`') return quotedAt(source, at, quote)
  const number = matchAt(NUMBER, source, at)
  if (number !== undefined)
    return { kind: 'number', value: Number(number), text: number, at, end: at + number.length }
  const word = matchAt(WORD, source, at)
  if (word !== undefined) return { kind: 'word', text: word, at, end: at + word.length }
  const symbol = matchAt(SYMBOL, source, at)
  if (symbol !== undefined) return { kind: 'symbol', text: symbol, at, end: at + symbol.length }
  throw new FilterSyntaxError(source, at, at + 1, 'a field, a value or an operator')
}

/** A quote within stands twice, as in SQL; nothing else is an escape. Backticks hold the name of a field. */
function quotedAt(source: string, at: number, quote: string): Token {
  let text = ''
  for (let from = at + 1; ; ) {
    const end = source.indexOf(quote, from)
    if (end === -1) throw new FilterSyntaxError(source, at, source.length, `a closing ${quote}`)
    text += source.slice(from, end)
    if (source[end + 1] !== quote) return { kind: quote === '`' ? 'field' : 'text', text, at, end: end + 1 }
    text += quote
    from = end + 2
  }
}

function skipSpace(source: string, at: number): number {
  return at + (matchAt(SPACE, source, at)?.length ?? 0)
}

function matchAt(pattern: RegExp, source: string, at: number): string | undefined {
  pattern.lastIndex = at
  return pattern.exec(source)?.[0]
}
