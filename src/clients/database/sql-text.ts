/**
 * What may be told of a statement from its text alone: the operation, the tables, and the text without its literals
 * (https://opentelemetry.io/docs/specs/semconv/database/database-spans/#sanitization-of-dbquerytext).
 *
 * A scanner, not a parser: it knows where strings, comments and identifiers end, which is what keeps a value from
 * being taken for a word. Anything it does not know stays in the text, or out of the summary.
 */

/**
 * How a database quotes: MySQL has backslashes in strings, and strings in double quotes. As its server does unless told
 * otherwise: `standard_conforming_strings = off` and `NO_BACKSLASH_ESCAPES` are not known of.
 */
export type SqlDialect = 'postgresql' | 'mysql' | 'sqlite'

/** A statement as telemetry may know it. */
export interface SqlDescription {
  /** First word in upper case: `SELECT`, `INSERT`, `BEGIN`; of `WITH …`, the word after its tables. */
  operation: string
  /** Tables in the order they are named, without the statement's own (`WITH x AS`). At most three. */
  tables: readonly string[]
  /** `db.query.summary`: `SELECT orders customers`. Low cardinality. */
  summary: string
  /** `db.query.text`: literals as `?`, comments left out, white space single. Cut at 2,000 characters. */
  text: string
}

/** How much of a statement is read, in characters. What comes later is seldom about which table. */
const SCANNED_LENGTH = 8192
const MAX_TEXT_LENGTH = 2000
const MAX_TABLES = 3
const MAX_NAME_LENGTH = 64

/** Statements remembered per dialect, since an app sends the same few: so many, of so many characters in all. */
const MAX_REMEMBERED = 500
const MAX_REMEMBERED_LENGTH = 1_000_000

/**
 * Describes a statement. Never throws, whatever the text.
 *
 * @param isFilledIn whether values have been written into the text where the app had placeholders: then `TRUE`,
 * `FALSE` and `NULL` are values too, and the text is not remembered, since the next one differs
 */
export function describeSql(sql: string, dialect: SqlDialect, isFilledIn = false): SqlDescription {
  // One character more than is read tells a statement that was cut. Of a copy: a slice keeps all of what it was cut
  // from, which may be megabytes.
  const read = sql.length > SCANNED_LENGTH ? ` ${sql.slice(0, SCANNED_LENGTH + 1)}`.slice(1) : sql
  if (isFilledIn) return scan(read, dialect, true)
  let description = remembered[dialect].get(read)
  if (description !== undefined) return description
  description = scan(read, dialect, false)
  remembered[dialect].set(read, description)
  return description
}

/** Descriptions by the part of the statement that is read. The oldest goes first. */
class Remembered {
  private readonly descriptions = new Map<string, SqlDescription>()
  private length = 0

  get(sql: string): SqlDescription | undefined {
    return this.descriptions.get(sql)
  }

  set(sql: string, description: SqlDescription): void {
    this.descriptions.set(sql, description)
    this.length += sql.length
    for (const oldest of this.descriptions.keys()) {
      if (this.descriptions.size <= MAX_REMEMBERED && this.length <= MAX_REMEMBERED_LENGTH) return
      this.descriptions.delete(oldest)
      this.length -= oldest.length
    }
  }
}

const remembered = { postgresql: new Remembered(), mysql: new Remembered(), sqlite: new Remembered() }

function scan(sql: string, dialect: SqlDialect, isFilledIn: boolean): SqlDescription {
  const isCut = sql.length > SCANNED_LENGTH
  const read = isCut ? sql.slice(0, SCANNED_LENGTH) : sql
  const reader = new SummaryReader()
  let text = ''
  let isAfterGap = false
  for (let at = 0; at < read.length; ) {
    const token = tokenAt(read, at, dialect)
    if (token.kind !== 'gap') {
      const value = read.slice(at, token.end)
      const kind = isFilledIn && token.kind === 'word' && VALUE_WORD.test(value) ? 'literal' : token.kind
      if (isAfterGap && text !== '') text += ' '
      text += kind === 'literal' ? '?' : value
      reader.read(kind, value)
    }
    isAfterGap = token.kind === 'gap'
    at = token.end
  }
  if (isCut || text.length > MAX_TEXT_LENGTH) text = `${text.slice(0, MAX_TEXT_LENGTH)}…`
  return { ...reader.summary(), text }
}

type TokenKind = 'gap' | 'literal' | 'word' | 'identifier' | 'sign'

interface Token {
  kind: TokenKind
  /** Where the next one begins. */
  end: number
}

const SPACE = /[ \t\n\v\f\r]+/y
/** For all three, whatever is not ASCII is part of a word: an emoji, a combining mark, a no-break space. */
const WORD = /[A-Za-z_\u0080-\uFFFF][\w$\u0080-\uFFFF]*/y
const NUMBER =
  /(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:[A-Za-z_\u0080-\uFFFF][\w$\u0080-\uFFFF]*)?/y
/** `$1`, `?`, `:name` and `@name` stand for values, and are kept as they are. `@E'…'` is a sign and a string. */
const PLACEHOLDER = /\$\d+|\?\d*|[$:@](?![eE]')[A-Za-z_\u0080-\uFFFF][\w$\u0080-\uFFFF]*/y
const DOLLAR_QUOTE = /\$(?:[A-Za-z_\u0080-\uFFFF][\w\u0080-\uFFFF]*)?\$/y
/** `E'…'`, `B'…'`, `X'…'`, `N'…'`, `_utf8'…'`: one literal with its prefix. */
const STRING_PREFIX = /^(?:[ebxn]|_[a-z0-9]+)$/i
/** Between two strings of Postgres that are one: white space with a line's end, and `--` comments. */
const CONTINUATION = /[ \t\v\f]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\v\f\r]|--[^\n\r]*[\n\r])*(?=')/y
/**
 * `/*! … *\/` is run or left out by the server's version, and ends elsewhere in the one case than in the other when its
 * first end is in a string or a comment. Such a statement is told no further.
 */
const EXECUTABLE = /\/\*M?!/y
const READ_ALIKE = /^(?:[^'"`#/-]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|-(?!-)|\/(?!\*))*$/s
const VALUE_WORD = /^(?:true|false|null)$/i

/** Where what the expression finds at this place ends, or undefined when it finds nothing. */
function endOf(expression: RegExp, sql: string, at: number): number | undefined {
  expression.lastIndex = at
  return expression.test(sql) ? expression.lastIndex : undefined
}

/** The token that begins here: its first character says what can be meant. */
function tokenAt(sql: string, at: number, dialect: SqlDialect): Token {
  const character = sql[at] ?? ''
  switch (character) {
    case ' ':
    case '\t':
    case '\n':
    case '\v':
    case '\f':
    case '\r':
      return { kind: 'gap', end: endOf(SPACE, sql, at) ?? at + 1 }
    case "'":
      return { kind: 'literal', end: endOfString(sql, at, dialect === 'mysql', dialect) }
    case '"':
      if (dialect === 'mysql') return { kind: 'literal', end: endOfQuoted(sql, at, true) }
      return { kind: 'identifier', end: endOfQuoted(sql, at, false) }
    case '`':
      if (dialect === 'postgresql') break
      return { kind: 'identifier', end: endOfQuoted(sql, at, false) }
    case '[':
      if (dialect !== 'sqlite') break
      return { kind: 'identifier', end: after(']', sql, at) }
    case '-':
      if (!beginsLineComment(sql, at, dialect)) break
      return { kind: 'gap', end: endOfLine(sql, at, dialect) }
    case '#':
      if (dialect !== 'mysql') break
      return { kind: 'gap', end: endOfLine(sql, at, dialect) }
    case '/':
      if (sql[at + 1] !== '*') break
      return comment(sql, at, dialect)
    case '$': {
      const quoteEnd = dialect === 'postgresql' ? endOf(DOLLAR_QUOTE, sql, at) : undefined
      if (quoteEnd !== undefined)
        return { kind: 'literal', end: after(sql.slice(at, quoteEnd), sql, quoteEnd) }
      return { kind: 'sign', end: endOf(PLACEHOLDER, sql, at) ?? at + 1 }
    }
    case ',':
    case '(':
    case ')':
    case '=':
    case '*':
      break
    case '?':
    case ':':
    case '@':
      return { kind: 'sign', end: endOf(PLACEHOLDER, sql, at) ?? at + 1 }
    default: {
      const wordEnd = endOf(WORD, sql, at)
      if (wordEnd !== undefined) return wordOrString(sql, at, wordEnd, dialect)
      const numberEnd = endOf(NUMBER, sql, at)
      if (numberEnd !== undefined) return { kind: 'literal', end: numberEnd }
    }
  }
  return { kind: 'sign', end: at + 1 }
}

/** A word, unless it is the prefix of a string: `E'…'`, `U&'…'`. */
function wordOrString(sql: string, at: number, end: number, dialect: SqlDialect): Token {
  const next = sql[end]
  if (next === "'" && STRING_PREFIX.test(sql.slice(at, end))) {
    const isEscaped = dialect === 'mysql' || (dialect === 'postgresql' && /^e$/i.test(sql.slice(at, end)))
    return { kind: 'literal', end: endOfString(sql, end, isEscaped, dialect) }
  }
  const isUnicode = next === '&' && sql[end + 1] === "'" && /^u$/i.test(sql.slice(at, end))
  if (isUnicode) return { kind: 'literal', end: endOfString(sql, end + 1, dialect === 'mysql', dialect) }
  return { kind: 'word', end }
}

/** In MySQL only with white space or a control character behind it: `5--5` is a sum. */
function beginsLineComment(sql: string, at: number, dialect: SqlDialect): boolean {
  if (sql[at + 1] !== '-') return false
  const next = sql.charCodeAt(at + 2)
  return dialect !== 'mysql' || Number.isNaN(next) || next <= 0x20 || next === 0x7f
}

function endOfLine(sql: string, at: number, dialect: SqlDialect): number {
  return endOf(dialect === 'postgresql' ? /[^\n\r]*/y : /[^\n]*/y, sql, at) ?? sql.length
}

/** `/* … *\/`. Postgres nests them. */
function comment(sql: string, start: number, dialect: SqlDialect): Token {
  if (dialect !== 'postgresql') {
    const end = after('*/', sql, start + 2)
    const mark = dialect === 'mysql' ? endOf(EXECUTABLE, sql, start) : undefined
    if (mark === undefined || READ_ALIKE.test(sql.slice(mark, end - 2))) return { kind: 'gap', end }
    return { kind: 'literal', end: sql.length }
  }
  let depth = 1
  const mark = /\/\*|\*\//g
  mark.lastIndex = start + 2
  for (let found = mark.exec(sql); found !== null; found = mark.exec(sql)) {
    depth += found[0] === '*/' ? -1 : 1
    if (depth === 0) return { kind: 'gap', end: mark.lastIndex }
  }
  return { kind: 'gap', end: sql.length }
}

/** Where the string ends, with those that continue it on other lines, which are read like the first. */
function endOfString(sql: string, start: number, hasBackslashes: boolean, dialect: SqlDialect): number {
  let end = endOfQuoted(sql, start, hasBackslashes)
  while (dialect === 'postgresql') {
    const next = endOf(CONTINUATION, sql, end)
    if (next === undefined) break
    end = endOfQuoted(sql, next, hasBackslashes)
  }
  return end
}

/** Where the quoted text ends. A doubled quote stands for itself; what is not closed goes to the end. */
function endOfQuoted(sql: string, start: number, hasBackslashes: boolean): number {
  const quote = sql[start]
  for (let at = start + 1; at < sql.length; at += 1) {
    if (hasBackslashes && sql[at] === '\\') at += 1
    else if (sql[at] === quote) {
      if (sql[at + 1] !== quote) return at + 1
      at += 1
    }
  }
  return sql.length
}

/** Where the next such mark ends, or the end. */
function after(mark: string, sql: string, from: number): number {
  const start = sql.indexOf(mark, from)
  return start < 0 ? sql.length : start + mark.length
}

const VERBS = new Set(['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'REPLACE', 'MERGE', 'VALUES', 'TABLE'])
/** After these words a table is named. */
const BEFORE_TABLE = new Set(['FROM', 'JOIN', 'INTO', 'UPDATE', 'TABLE', 'USING'])
/** May stand between such a word and the table. */
const PASSED_OVER = new Set(['ONLY', 'IF', 'NOT', 'EXISTS', 'LATERAL', 'IGNORE', 'LOW_PRIORITY'])
/** Words that are no table, where one could stand. */
const NO_TABLE = new Set(['SET', 'SELECT', 'WHERE', 'OF', 'SKIP', 'NOWAIT', 'OUTFILE', 'DUMPFILE', 'VALUES'])

/** Reads tokens one by one, and notes the operation and the tables. */
class SummaryReader {
  private operation: string | undefined
  private isWith = false
  private isOver = false
  private readonly tables: string[] = []
  private readonly ownTables = new Set<string>()
  /** For each open parenthesis, whether a query began in it: `EXTRACT(year FROM …)` names no table. */
  private readonly hasQuery: boolean[] = [false]
  private lastWord = ''
  /** The last name before `AS (`, which is a table of the statement's own after `WITH`. */
  private lastName = ''
  private name: string[] = []
  private state: 'reading' | 'before table' | 'in table' | 'after dot' = 'reading'

  read(kind: TokenKind, value: string): void {
    if (this.isOver) return
    const word = kind === 'word' ? value.toUpperCase() : ''
    if (this.operation === undefined && word !== '') this.startWith(word)
    if (this.readTable(kind, value, word)) return
    if (value === '(') this.hasQuery.push(false)
    else if (value === ')' && this.hasQuery.length > 1) this.hasQuery.pop()
    else if (value === ';') this.isOver = this.operation !== undefined
    else if (word !== '') this.readWord(word, value)
    else if (kind === 'identifier') this.lastName = unquoted(value)
  }

  summary(): Omit<SqlDescription, 'text'> {
    this.endTable()
    const operation = this.operation ?? (this.isWith ? 'WITH' : 'QUERY')
    const tables = this.tables.filter((table) => !this.ownTables.has(table)).slice(0, MAX_TABLES)
    return { operation, tables, summary: [operation, ...tables].join(' ') }
  }

  private startWith(word: string): void {
    if (word === 'WITH' && !this.isWith) this.isWith = true
    else if (!this.isWith || (VERBS.has(word) && this.hasQuery.length === 1)) {
      this.operation = word.slice(0, MAX_NAME_LENGTH)
    }
  }

  private readWord(word: string, value: string): void {
    const { lastWord } = this
    this.lastWord = word
    if (this.isWith && this.operation === undefined && word === 'AS') this.ownTables.add(this.lastName)
    else this.lastName = value
    if (word === 'SELECT' || word === 'DELETE') this.hasQuery[this.hasQuery.length - 1] = true
    if (!BEFORE_TABLE.has(word)) return
    // `IS DISTINCT FROM`, `EXTRACT(year FROM`, `JOIN … USING (`, `FOR UPDATE`, `ON CONFLICT DO UPDATE SET`.
    if (word === 'FROM' && (lastWord === 'DISTINCT' || this.hasQuery.at(-1) !== true)) return
    if (word === 'USING' && this.operation !== 'DELETE' && this.operation !== 'MERGE') return
    if (word === 'UPDATE' && (lastWord === 'FOR' || lastWord === 'DO' || lastWord === 'KEY')) return
    this.state = 'before table'
  }

  /** True when the token was part of a table's name. */
  private readTable(kind: TokenKind, value: string, word: string): boolean {
    const isName = kind === 'identifier' || (kind === 'word' && !NO_TABLE.has(word))
    switch (this.state) {
      case 'before table':
        if (PASSED_OVER.has(word)) return true
        this.state = isName ? 'in table' : 'reading'
        if (isName) this.name = [unquoted(value)]
        return isName
      case 'after dot':
        this.state = isName ? 'in table' : 'reading'
        if (isName) this.name.push(unquoted(value))
        return isName
      case 'in table':
        if (value === '.') {
          this.state = 'after dot'
          return true
        }
        // `FROM unnest(…)` calls a function, `INSERT INTO orders (…)` names columns.
        if (value !== '(' || this.lastWord === 'INTO' || this.lastWord === 'TABLE') this.endTable()
        this.state = 'reading'
        return false
      default:
        return false
    }
  }

  private endTable(): void {
    if (this.state !== 'in table') return
    this.state = 'reading'
    const table = this.name.join('.').slice(0, MAX_NAME_LENGTH)
    if (!this.tables.includes(table)) this.tables.push(table)
  }
}

function unquoted(name: string): string {
  const quote = name[0]
  if (quote === '[') return name.slice(1, name.endsWith(']') ? -1 : undefined)
  if (quote !== '"' && quote !== '`') return name
  return name
    .slice(1, name.endsWith(quote) && name.length > 1 ? -1 : undefined)
    .replaceAll(quote + quote, quote)
}
