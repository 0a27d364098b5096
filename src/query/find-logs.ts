/** The lines that a filter finds, one after the other. */
import type { Readable } from 'node:stream'
import type { Filter } from './filter/ast.js'
import { type LogEntry, matcherOf } from './filter/match.js'
import { readSources } from './log-sources.js'
import { parseObject } from './loose-json.js'
import type { ReadTally } from './ndjson-files.js'

export interface LogQuery {
  /** Files, folders, `-`. */
  paths: readonly string[]
  /** Default: every line. */
  filter?: Filter | undefined
  /** IDs that a line must have: looked for in the bytes, before anything is parsed. */
  containing?: readonly string[] | undefined
  stdin?: Readable
  /** Counted up while reading. */
  tally: ReadTally
}

export interface FoundLine {
  /** As it was written. */
  text: string
  entry: LogEntry
}

/** @throws {ThroughlineError} `FILES_UNREADABLE` */
export async function* findLogs({
  paths,
  filter,
  containing,
  stdin,
  tally,
}: LogQuery): AsyncGenerator<FoundLine> {
  const matches = filter === undefined ? () => true : matcherOf(filter)
  const options = { tally, ...(containing && { containing }), ...(stdin && { stdin }) }
  for await (const text of readSources(paths, options)) {
    if (text.trim() === '') continue
    const entry = parseObject(text)
    if (entry === undefined) tally.unreadableLines += 1
    else if (matches(entry)) yield { text, entry }
  }
}
