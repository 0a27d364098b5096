/** Questions in DuckDB's own SQL, asked of log lines alone: no other file can be read, and none written. */
import type { DuckDBPreparedStatement, DuckDBValueConverter, Json } from '@duckdb/node-api'
import { ThroughlineError } from '../../errors.js'
import type { ReadTally } from '../files/ndjson-files.js'
import { LEVELS } from '../filter/ast.js'
import { numberIn } from '../filter/compile-duckdb.js'
import { IS_OBJECT, linesOfFiles } from './log-lines.js'
import { type DuckdbModule, importDuckdb, openDuckdb, quoted } from './open.js'

export interface SqlAnswer {
  columns: string[]
  /** Values as JSON has them; moments are texts, in UTC. */
  rows: AsyncGenerator<readonly Json[]>
}

/**
 * @param files NDJSON, packed or not, and Parquet: the table `logs`
 * @param tally lines that are no JSON are counted up after the last row
 * @throws {ThroughlineError} `SQL_INVALID`, with what DuckDB says; `PACKAGE_MISSING`
 */
export async function askSql(sql: string, files: readonly string[], tally: ReadTally): Promise<SqlAnswer> {
  const duckdb = await importDuckdb()
  const { connection, close } = await openDuckdb()
  try {
    await connection.run(`CREATE VIEW logs AS ${viewOf(files)}`)
    await connection.run(`SET allowed_paths = [${files.map(quoted).join(', ')}]`)
    await connection.run('SET enable_external_access = false')
    await connection.run('SET lock_configuration = true')
    const statements = await connection.extractStatements(sql).catch(refuse)
    const prepare = async (index: number) =>
      readingOnly(await statements.prepare(index).catch(refuse), duckdb)
    const last = statements.count - 1
    for (let index = 0; index < last; index += 1) await (await prepare(index)).run().catch(refuse)
    const result = await (await prepare(last)).stream().catch(refuse)
    const rows = async function* () {
      try {
        for await (const chunk of result.yieldConvertedRows(jsonConverter(duckdb))) yield* chunk
        const broken = await connection.runAndReadAll(
          `SELECT count(*) FROM (${linesOfFiles(files)}) WHERE NOT ${IS_OBJECT}`,
        )
        tally.unreadableLines += Number(broken.getRows()[0]?.[0] ?? 0)
        tally.files += files.length
      } catch (error) {
        refuse(error)
      } finally {
        close()
      }
    }
    return { columns: result.deduplicatedColumnNames(), rows: rows() }
  } catch (error) {
    close()
    throw error
  }
}

/** A file that may be read could be written, too. */
function readingOnly(
  statement: DuckDBPreparedStatement,
  { StatementType }: DuckdbModule,
): DuckDBPreparedStatement {
  const { COPY, COPY_DATABASE, EXPORT } = StatementType
  if (![COPY, COPY_DATABASE, EXPORT].includes(statement.statementType)) return statement
  return refuse(
    new Error('COPY and EXPORT write files, and are not allowed here. --csv and --json write rows.'),
  )
}

function refuse(cause: unknown): never {
  const said = cause instanceof Error ? cause.message : String(cause)
  throw new ThroughlineError('SQL_INVALID', 'The SQL cannot be answered.', {
    // All that the binding says of a text without a statement.
    why: said.includes('native callback')
      ? 'There is no statement in it.'
      : said.replace(/^Failed to extract statements: /, ''),
    fix: 'See: throughline logs --help, for the columns of logs.',
    cause,
  })
}

/** A line is parsed once for all columns. The whole line is the column `json`. */
function viewOf(files: readonly string[]): string {
  const names = Object.values(COLUMNS).map(({ pointer }) => quoted(pointer))
  const columns = Object.entries(COLUMNS).map(
    ([name, { as }], index) => `${as(`fields[${index + 1}]`)} AS ${name}`,
  )
  return `SELECT ${columns.join(', ')}, json
    FROM (SELECT json, json_extract(json, [${names.join(', ')}])::VARCHAR[] AS fields
          FROM (${linesOfFiles(files)}) WHERE ${IS_OBJECT})`
}

interface Column {
  pointer: string
  /** Out of a JSON text. */
  as: (value: string) => string
}

const text = (value: string) => `(${value}::JSON ->> '$')`
const number = (value: string) => numberIn(['duration_ms'], value)
const LEVEL_NAMES = Object.entries(LEVELS)
  .map(([name, level]) => `WHEN ${level} THEN '${name}'`)
  .join(' ')

const COLUMNS: Readonly<Record<string, Column>> = {
  time: { pointer: '/time', as: (value) => `epoch_ms(${numberIn(['time'], value)}::BIGINT)` },
  level: {
    pointer: '/level',
    as: (value) => `CASE ${numberIn(['level'], value)} ${LEVEL_NAMES} ELSE ${text(value)} END`,
  },
  level_number: { pointer: '/level', as: (value) => numberIn(['level'], value) },
  msg: { pointer: '/msg', as: text },
  service: { pointer: '/service', as: text },
  correlation_id: { pointer: '/correlation_id', as: text },
  trace_id: { pointer: '/trace_id', as: text },
  span_id: { pointer: '/span_id', as: text },
  action: { pointer: '/action', as: text },
  route: { pointer: '/route', as: text },
  method: { pointer: '/method', as: text },
  path: { pointer: '/path', as: text },
  status: { pointer: '/status', as: (value) => `try_cast(${number(value)} AS INTEGER)` },
  duration_ms: { pointer: '/duration_ms', as: number },
  outcome: { pointer: '/outcome', as: text },
  hit: { pointer: '/idempotency/hit', as: (value) => `try_cast(${value} AS BOOLEAN)` },
  key_hash: { pointer: '/idempotency/key_hash', as: text },
  digest: { pointer: '/err/digest', as: text },
  error: { pointer: '/err/message', as: text },
  error_type: { pointer: '/err/type', as: text },
  stack: { pointer: '/err/stack', as: text },
}

/** Numbers where JavaScript has them exactly, and decimals. */
function jsonConverter({
  DuckDBDecimalValue,
  JsonDuckDBValueConverter,
}: DuckdbModule): DuckDBValueConverter<Json> {
  return (value, type, converter) => {
    if (value instanceof DuckDBDecimalValue) return value.toDouble()
    if (typeof value === 'bigint' && Number.isSafeInteger(Number(value))) return Number(value)
    return JsonDuckDBValueConverter(value, type, converter)
  }
}
