/**
 * DuckDB with nothing around it: runs the statement that it is given, and prints the first column. JavaScript, for Node
 * would take 30 ms to strip types.
 */
import { enableCompileCache } from 'node:module'

enableCompileCache()
const { DuckDBInstance } = await import('@duckdb/node-api')
const [sql] = process.argv.slice(2)
const instance = await DuckDBInstance.create(':memory:')
const connection = await instance.connect()
const startedMs = performance.now()
const result = await connection.stream(sql)
for (;;) {
  const chunk = await result.fetchChunk()
  if (chunk === null || chunk.rowCount === 0) break
  process.stdout.write(`${chunk.getColumnValues(0).join('\n')}\n`)
}
process.stderr.write(`query ms: ${performance.now() - startedMs}\n`)
