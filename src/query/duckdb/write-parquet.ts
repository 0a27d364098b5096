/** Log lines into a Parquet file: packed with zstd, with bloom filters on the IDs. */
import type { LogEntry } from '../filter/match.js'
import { columnValues, LOG_COLUMNS } from './log-columns.js'
import { openDuckdb, quoted } from './open.js'

/**
 * Lines of a row group: a look-up reads the bloom filters of all, and the lines of those that may have the ID; compacting
 * has one in memory. DuckDB writes a bloom filter where a column has a dictionary, so a dictionary may be as large as its
 * group.
 */
const GROUP_LINES = 20_480

/** Neither can stand in JSON, nor in a value that `stagedLine` takes. */
const [SEPARATOR, ABSENT] = ['\x1f', '\x1e']

/** What can stand in none of the columns of the staged file. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for.
const CONTROL = /[\x00-\x1f]/

/** Half of a UTF-16 pair, escaped: JavaScript reads it, DuckDB does not. */
const LONE_SURROGATE =
  /\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}/i

/** Longer ones are left where they are, in UTF-16 units: DuckDB's buffers are twice as large as the longest line. */
const MAX_LINE_LENGTH = 4 * 1024 * 1024

/** A line is read as one that is so long, in UTF-16 units: of smaller buffers there would be more, and not less memory. */
const MIN_LINE_LENGTH = 512 * 1024

/** The longest that UTF-8 makes of a UTF-16 unit. */
const BYTES_OF_UNIT = 3

/** A line of the file that `writeParquet` takes, with its line end; undefined for one that it cannot take. */
export function stagedLine(entry: LogEntry, text: string): string | undefined {
  if (text.length > MAX_LINE_LENGTH || LONE_SURROGATE.test(text)) return undefined
  const values = columnValues(entry).map((value) => (value === undefined ? ABSENT : String(value)))
  if (values.some((value) => value !== ABSENT && CONTROL.test(value))) return undefined
  return `${values.join(SEPARATOR)}${SEPARATOR}${text.trim()}\n`
}

/** Lines that were staged. */
export interface StagedLines {
  count: number
  /** Of the longest, in UTF-16 units. */
  longest: number
}

/**
 * Writes the staged lines, in their order, and reads them back.
 *
 * @throws {Error} when another number, or other lines, are read back
 * @throws {ThroughlineError} `PACKAGE_MISSING`
 */
export async function writeParquet(staged: string, path: string, lines: StagedLines): Promise<void> {
  // One thread, for each holds a group of lines and its dictionaries.
  const { connection, close } = await openDuckdb({ threads: '1', memory_limit: '96MB' })
  try {
    const columns = [...LOG_COLUMNS.map(({ name, type }) => `${name}: '${type}'`), `json: 'JSON'`].join(', ')
    const lineBytes = BYTES_OF_UNIT * Math.max(lines.longest, MIN_LINE_LENGTH)
    const relation = `read_csv(${quoted(staged)}, columns = {${columns}}, delim = '${SEPARATOR}', nullstr = '${ABSENT}',
      quote = '', escape = '', header = false, auto_detect = false, max_line_size = ${lineBytes},
      buffer_size = ${2 * lineBytes})`
    await connection.run(
      `COPY (SELECT * FROM ${relation}) TO ${quoted(path)}
       (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${GROUP_LINES}, DICTIONARY_SIZE_LIMIT ${GROUP_LINES})`,
    )
    const names = [...LOG_COLUMNS.map(({ name }) => name), 'json'].join(', ')
    const sums = `SELECT count(*), sum(hash(${names})::HUGEINT)`
    const reader = await connection.runAndReadAll(
      `${sums} FROM ${relation} UNION ALL ${sums} FROM read_parquet(${quoted(path)})`,
    )
    const [given, readBack] = reader.getRows().map((row) => row.join(' '))
    if (given !== readBack || !given?.startsWith(`${lines.count} `))
      throw new Error(`${path}: ${lines.count} lines were written, and something else was read back.`)
  } finally {
    close()
  }
}
