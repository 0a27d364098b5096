/**
 * What may be told of a statement from its text alone: the operation, the tables, and the text without its literals
 * (https://opentelemetry.io/docs/specs/semconv/database/database-spans/#sanitization-of-dbquerytext).
 *
 * A scanner, not a parser: it knows where strings, comments and identifiers end, which is what keeps a value from
 * being taken for a word. Anything it does not know stays in the text, or out of the summary.
 */

/** How a database quotes: MySQL has backslashes in strings, and strings in double quotes. */
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

/** Statements remembered, since an app sends the same few; a longer one is not worth its memory. */
const MAX_REMEMBERED = 500
const MAX_REMEMBERED_LENGTH = 4096

const remembered = {
  postgresql: new Map<string, SqlDescription>(),
  mysql: new Map<string, SqlDescription>(),
  sqlite: new Map<string, SqlDescription>(),
}

/** Describes a statement. Never throws, whatever the text. */
export function describeSql(sql: string, dialect: SqlDialect): SqlDescription {
  if (sql.length > MAX_REMEMBERED_LENGTH) return scan(sql, dialect)
  const known = remembered[dialect]
  let description = known.get(sql)
  if (description !== undefined) return description
  description = scan(sql, dialect)
  if (known.size >= MAX_REMEMBERED) known.delete(known.keys().next().value ?? '')
  known.set(sql, description)
  return description
}

function scan(sql: string, dialect: SqlDialect): SqlDescription {
  const isCut = sql.length > SCANNED_LENGTH
  const reader = new SummaryReader()
  let text = ''
  for (const { kind, value } of tokens(isCut ? sql.slice(0, SCANNED_LENGTH) : sql, dialect)) {
    if (kind === 'gap') {
      if (text !== '' && !text.endsWith(' ')) text += ' '
      continue
    }
    text += kind === 'literal' ? '?' : value
    reader.read(kind, value)
  }
  text = text.trimEnd()
  if (isCut || text.length > MAX_TEXT_LENGTH) text = `${text.slice(0, MAX_TEXT_LENGTH)}…`
  return { ...reader.summary(), text }
}

type TokenKind = 'gap' | 'literal' | 'word' | 'identifier' | 'sign'

interface Token {
  kind: TokenKind
  value: string
}

const WORD = /[\p{L}_][\p{L}\p{N}_$]*/uy
/** `$1`, `?`, `:name` and `@name` stand for values, and are kept as they are. */
const PLACEHOLDER = /\$\d+|\?\d*|[:@][\p{L}_][\p{L}\p{N}_]*/uy
const NUMBER = /(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[\p{L}\p{N}_]*/uy
const SPACE = /\s+/y
const DOLLAR_QUOTE = /\$(?:[\p{L}_][\p{L}\p{N}_]*)?\$/uy
/** `E'…'`, `B'…'`, `X'…'`, `N'…'`, `U&'…'`, `_utf8'…'`: one literal with its prefix. */
const STRING_PREFIX = /(?:[eEbBxXnN]|[uU]&|_[A-Za-z0-9]+)(?=')/y

function* tokens(sql: string, dialect: SqlDialect): Generator<Token> {
  let at = 0
  const match = (expression: RegExp) => {
    expression.lastIndex = at
    return expression.exec(sql)?.[0]
  }
  while (at < sql.length) {
    const character = sql[at] ?? ''
    const space = match(SPACE)
    const commentEnd = space === undefined ? endOfComment(sql, at, dialect) : undefined
    if (space !== undefined || commentEnd !== undefined) {
      at = commentEnd ?? at + (space?.length ?? 0)
      yield { kind: 'gap', value: ' ' }
      continue
    }
    const prefix = match(STRING_PREFIX) ?? ''
    const quote = sql[at + prefix.length] ?? ''
    const dollarQuote = dialect === 'postgresql' && character === '$' ? match(DOLLAR_QUOTE) : undefined
    let token: Token
    if (dollarQuote !== undefined) {
      const end = sql.indexOf(dollarQuote, at + dollarQuote.length)
      token = { kind: 'literal', value: sql.slice(at, end < 0 ? sql.length : end + dollarQuote.length) }
    } else if (quote === "'" || (character === '"' && dialect === 'mysql')) {
      const hasBackslashes = dialect === 'mysql' || /^e$/i.test(prefix)
      token = { kind: 'literal', value: sql.slice(at, endOfQuoted(sql, at + prefix.length, hasBackslashes)) }
    } else if (character === '"' || character === '`') {
      token = { kind: 'identifier', value: sql.slice(at, endOfQuoted(sql, at, false)) }
    } else {
      token = plainToken(match, character)
    }
    at += token.value.length
    yield token
  }
}

function plainToken(match: (expression: RegExp) => string | undefined, character: string): Token {
  const word = match(WORD)
  if (word !== undefined) return { kind: 'word', value: word }
  const placeholder = match(PLACEHOLDER)
  if (placeholder !== undefined) return { kind: 'sign', value: placeholder }
  const number = match(NUMBER)
  if (number !== undefined) return { kind: 'literal', value: number }
  return { kind: 'sign', value: character }
}

/** Where the comment that begins here ends, or undefined when none begins. Postgres nests them. */
function endOfComment(sql: string, start: number, dialect: SqlDialect): number | undefined {
  const two = sql.slice(start, start + 2)
  if (two === '--' || (dialect === 'mysql' && sql[start] === '#')) {
    const end = sql.indexOf('\n', start)
    return end < 0 ? sql.length : end + 1
  }
  if (two !== '/*') return undefined
  let depth = 1
  const mark = /\/\*|\*\//g
  mark.lastIndex = start + 2
  for (let found = mark.exec(sql); found !== null; found = mark.exec(sql)) {
    if (found[0] === '*/') depth -= 1
    else if (dialect === 'postgresql') depth += 1
    if (depth === 0) return mark.lastIndex
  }
  return sql.length
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

  /** The last name before `AS (`, which is a table of the statement's own after `WITH`. */
  private lastName = ''

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
  if (quote !== '"' && quote !== '`') return name
  return name
    .slice(1, name.endsWith(quote) && name.length > 1 ? -1 : undefined)
    .replaceAll(quote + quote, quote)
}
