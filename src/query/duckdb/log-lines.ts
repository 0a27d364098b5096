/** Files of log lines as one relation with a column `json`, whatever they are packed with. */
import { isParquet } from '../files/sources.js'
import { fileList, quoted } from './open.js'

/** A longer line is an error of DuckDB's, whose buffers are twice as large, one for each thread. */
const MAX_LINE_BYTES = 16 * 1024 * 1024

/**
 * NULL stands for a line that is no JSON, or one that DuckDB cannot read.
 *
 * @param pruning a condition on the columns of Parquet files
 */
export function linesOfFiles(files: readonly string[], pruning = 'true'): string {
  const packed = files.filter(isParquet)
  const plain = files.filter((file) => !isParquet(file))
  return [
    ...(packed.length > 0 ? [`SELECT json FROM read_parquet(${fileList(packed)}) WHERE ${pruning}`] : []),
    ...(plain.length > 0
      ? [
          `SELECT json FROM read_ndjson_objects(${fileList(plain)}, ignore_errors = true,
            maximum_object_size = ${MAX_LINE_BYTES})`,
        ]
      : []),
  ].join(' UNION ALL ')
}

/** Of `json`: whether it is a log line, and no other JSON. */
export const IS_OBJECT = "coalesce(starts_with(ltrim(json::VARCHAR), '{'), false)"

/** The lines that DuckDB cannot read as JSON, as texts. Not of Parquet, which has none. */
export function brokenLines(files: readonly string[]): string {
  return `SELECT line FROM read_csv(${fileList(files.filter((file) => !isParquet(file)))}, columns = {line: 'VARCHAR'},
      delim = ${quoted('\x1f')}, quote = '', escape = '', header = false, auto_detect = false,
      max_line_size = ${MAX_LINE_BYTES},
      buffer_size = ${2 * MAX_LINE_BYTES}, parallel = false) WHERE NOT json_valid(line)`
}
