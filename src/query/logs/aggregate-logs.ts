/** Lines of files, counted: by DuckDB where it is installed and the files are large, else line by line. */
import { isThroughlineError } from '../../errors.js'
import { bytesOfFiles, filesAtAll, isParquet, STDIN } from '../files/sources.js'
import { type Aggregate, type AggregateResult, aggregateLines } from './aggregate.js'
import { findLogs, type LogQuery } from './find-logs.js'

/** Below this, reading takes less time than loading DuckDB. */
const LARGE_BYTES = 32 * 1024 * 1024

/** @throws {ThroughlineError} `FILES_UNREADABLE`, `TOO_MANY_GROUPS` */
export async function aggregateLogs(query: LogQuery, aggregate: Aggregate): Promise<AggregateResult> {
  const { paths, filter, tally } = query
  const files = paths.includes(STDIN) ? [] : await filesAtAll(paths)
  if (files.some(isParquet) || (await bytesOfFiles(files)) >= LARGE_BYTES) {
    const { aggregateFiles } = await import('../duckdb/aggregate-files.js')
    const result = await aggregateFiles({ files, filter, aggregate, tally }).catch(unlessMissing)
    // One that found nothing is asked again line by line, for the names of fields.
    if (result !== undefined && isSomething(result)) return result
  }
  return aggregateLines(findLogs(query), aggregate)
}

function unlessMissing(error: unknown): undefined {
  if (isThroughlineError(error) && error.code === 'PACKAGE_MISSING') return undefined
  throw error
}

function isSomething(result: AggregateResult): boolean {
  return (result.kind === 'histogram' ? result.buckets : result.groups).length > 0
}
