/** Lines of several files, the earliest first. */

import { parseObject } from '../files/loose-json.js'
import type { ReadTally } from '../files/ndjson-files.js'
import { readSources } from '../files/sources.js'
import type { LogEntry } from '../filter/match.js'
import { rankOf } from '../filter/ranks.js'

export interface MergedLine {
  text: string
  /** Undefined for a line that is no object of JSON. */
  entry: LogEntry | undefined
}

/**
 * Each file is taken to be in order, as whoever writes it appends: lines that are not follow the one before them. At any
 * time a block of each file is in memory.
 */
export async function* mergeByTime(files: readonly string[], tally: ReadTally): AsyncGenerator<MergedLine> {
  const heads: Head[] = []
  try {
    for (const file of files) {
      const head: Head = { lines: readSources([file], { tally }), timeMs: 0, line: undefined }
      await advance(head)
      if (head.line !== undefined) heads.push(head)
    }
    while (heads.length > 0) {
      let earliest = heads[0] as Head
      for (const head of heads) if (head.timeMs < earliest.timeMs) earliest = head
      yield earliest.line as MergedLine
      await advance(earliest)
      if (earliest.line === undefined) heads.splice(heads.indexOf(earliest), 1)
    }
  } finally {
    await Promise.all(heads.map(({ lines }) => lines.return(undefined)))
  }
}

/** A file, and its line that comes next. */
interface Head {
  lines: AsyncGenerator<string>
  timeMs: number
  line: MergedLine | undefined
}

async function advance(head: Head): Promise<void> {
  const { value: text, done } = await head.lines.next()
  if (done === true) {
    head.line = undefined
    return
  }
  const entry = parseObject(text)
  const time = rankOf(['time'], entry?.time)
  if (typeof time === 'number') head.timeMs = time
  head.line = { text, entry }
}
