/** The last lines that a filter finds. Files are read from their ends, for these lines are mostly found there. */

import { closeSync, fstatSync, openSync } from 'node:fs'
import { bytesBetween, lastLineEnd } from '../files/file-slices.js'
import { linesOf, type ReadOptions, unreadable } from '../files/ndjson-files.js'
import { filesAtAll, isPlainFile, readSources } from '../files/sources.js'
import { foundIn, type LogQuery, lineSelection } from './find-logs.js'
import { lastOf } from './last-of.js'
import type { FoundLine } from './log-line.js'

/** What is read at once, of a file's end. */
const SLICE_BYTES = 4 * 1024 * 1024

/**
 * In the order of the files.
 *
 * @param ends where plain files end, by path: those without one are left out. Default: all, to their ends
 * @throws {ThroughlineError} `FILES_UNREADABLE`
 */
export async function findLastLogs(
  query: LogQuery,
  count: number,
  ends?: ReadonlyMap<string, number>,
): Promise<FoundLine[]> {
  const files = await filesAtAll(query.paths)
  const options = lineSelection(query)
  let found: FoundLine[] = []
  for (const file of files.reverse()) {
    if (ends !== undefined && isPlainFile(file) && !ends.has(file)) continue
    for await (const lines of slicesFromEnd(file, options, ends?.get(file))) {
      found = [...(await lastOf(foundIn(lines, query), count - found.length)), ...found]
      if (found.length >= count) return found
    }
  }
  return found
}

/** Lines of a file, slice by slice, the last first. One that is packed is a slice of its own. */
async function* slicesFromEnd(
  file: string,
  options: ReadOptions & Pick<LogQuery, 'tally'>,
  endOfFile?: number,
): AsyncGenerator<AsyncIterable<string>> {
  const { tally } = options
  if (!isPlainFile(file)) {
    yield readSources([file], options)
    return
  }
  const descriptor = openFileAt(file)
  try {
    tally.files += 1
    for (let end = endOfFile ?? fstatSync(descriptor).size; end > 0; ) {
      const start = end > SLICE_BYTES ? lastLineEnd(descriptor, 0, end - SLICE_BYTES) : 0
      yield linesOf(bytesBetween(descriptor, start, end, tally), options, tally)
      end = start
    }
  } finally {
    closeSync(descriptor)
  }
}

function openFileAt(file: string): number {
  try {
    return openSync(file, 'r')
  } catch (error) {
    throw unreadable(file, error)
  }
}
