/** The lines that a filter finds, one after the other. */
import type { Filter } from './filter/ast.js'
import { noteFields } from './filter/fields.js'
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
  /** Counted up while reading. */
  tally: ReadTally
  /** Filled with the names of fields, until a line is found: what a filter that finds nothing may have meant. */
  names?: Set<string>
}

export interface FoundLine {
  /** As it was written. */
  text: string
  entry: LogEntry
}

/** @throws {ThroughlineError} `FILES_UNREADABLE` */
export async function* findLogs(query: LogQuery): AsyncGenerator<FoundLine> {
  const { paths, filter, containing, tally } = query
  let { names } = query
  const matches = filter === undefined ? () => true : matcherOf(filter)
  const options = { tally, ...(containing && { containing }) }
  for await (const text of readSources(paths, options)) {
    if (text.trim() === '') continue
    const entry = parseObject(text)
    if (entry === undefined) tally.unreadableLines += 1
    else if (matches(entry)) {
      names = undefined
      yield { text, entry }
    } else if (names !== undefined) noteFields(names, entry)
  }
}
