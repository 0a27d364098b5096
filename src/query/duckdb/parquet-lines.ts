/** Lines out of the Parquet files that `throughline compact` writes. */
import type { Filter } from '../filter/ast.js'
import { compileForDuckdb } from '../filter/compile-duckdb.js'
import { pruningOf } from './log-columns.js'
import { fileList, openDuckdb } from './open.js'

/** One of both; without, all lines are found. */
export interface ParquetQuery {
  filter?: Filter | undefined
  /** Lines that have one of these texts. */
  containing?: readonly string[] | undefined
}

/**
 * The lines that are asked for, and some that JavaScript has to look at again, in the order of the files and by time.
 *
 * @throws {ThroughlineError} `PACKAGE_MISSING`
 */
export async function* parquetLines(files: readonly string[], query: ParquetQuery): AsyncGenerator<string> {
  const { connection, close } = await openDuckdb()
  try {
    for (const { sql, parameters } of statementsOf(fileList(files), query)) {
      const result = await connection.stream(sql, parameters)
      for (;;) {
        const chunk = await result.fetchChunk()
        if (chunk === null || chunk.rowCount === 0) break
        for (const line of chunk.getColumnValues(0)) yield line as string
      }
    }
  } finally {
    close()
  }
}

interface Statement {
  sql: string
  parameters: string[]
}

function statementsOf(files: string, { filter, containing }: ParquetQuery): Statement[] {
  if (filter === undefined && containing !== undefined) return containingStatements(files, containing)
  const { fields, condition, isOpen, parameters } = compileForDuckdb(filter)
  const pruning = pruningOf(filter, parameters.length + 1)
  return [
    {
      sql: `SELECT json::VARCHAR
        FROM (SELECT json, ${fields} AS fields FROM read_parquet(${files}) WHERE ${pruning.condition})
        WHERE ${condition} OR ${isOpen}`,
      parameters: [...parameters, ...pruning.parameters],
    },
  ]
}

/**
 * Whole IDs are asked of the columns with bloom filters, which read one column at a time. What one statement finds,
 * the later ones do not: a line may have several of the texts.
 */
function containingStatements(files: string, containing: readonly string[]): Statement[] {
  const lines = `SELECT json::VARCHAR FROM read_parquet(${files}) WHERE`
  const ids = containing.filter((text) => WHOLE_ID.test(text))
  const texts = containing.filter((text) => !WHOLE_ID.test(text))
  const list = ids.map((_, index) => `$${index + 1}::VARCHAR`).join(', ')
  const isWithout = (column: string) => `coalesce(${column}, '') NOT IN (${list})`
  const statements: Statement[] = []
  if (ids.length > 0)
    statements.push(
      { sql: `${lines} correlation_id IN (${list})`, parameters: ids },
      { sql: `${lines} trace_id IN (${list}) AND ${isWithout('correlation_id')}`, parameters: ids },
    )
  if (texts.length > 0) {
    const has = texts.map((_, index) => `contains(json::VARCHAR, $${ids.length + index + 1}::VARCHAR)`)
    const conditions = [
      `(${has.join(' OR ')})`,
      ...(ids.length === 0 ? [] : [isWithout('correlation_id'), isWithout('trace_id')]),
    ]
    const inJson = texts.map((text) => JSON.stringify(text).slice(1, -1))
    statements.push({ sql: `${lines} ${conditions.join(' AND ')}`, parameters: [...ids, ...inJson] })
  }
  return statements
}

const WHOLE_ID = /^[0-9a-f]{32}$/

/** Of the last line in a file, epoch milliseconds; undefined when none has a time. */
export async function newestTimeMs(file: string): Promise<number | undefined> {
  const { connection, close } = await openDuckdb()
  try {
    const reader = await connection.runAndReadAll(`SELECT max(time) FROM read_parquet(${fileList([file])})`)
    return (reader.getRows()[0]?.[0] ?? undefined) as number | undefined
  } finally {
    close()
  }
}
