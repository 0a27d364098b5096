/** The lines that a filter finds, one after the other. */
import type { Filter } from './filter/ast.js'
import { noteFields } from './filter/fields.js'
import { type LogEntry, matcherOf } from './filter/match.js'
import { type Sieve, sieveOf } from './filter/sieve.js'
import { parseObject } from './loose-json.js'
import type { ReadTally } from './ndjson-files.js'
import { readSources } from './sources.js'

export interface LogQuery {
  /** Files, folders, `-`. */
  paths: readonly string[]
  /** Default: every line. */
  filter?: Filter | undefined
  /** IDs that a line must have: looked for in the bytes, before anything is parsed. */
  containing?: readonly string[] | undefined
  /** Counted up while reading. */
  tally: ReadTally
  /** Filled with the names of the first lines' fields: what a filter that finds nothing may have meant. */
  names?: Set<string>
}

/** So many lines are parsed for their fields' names, whatever the filter. */
export const SAMPLED_LINES = 1_000

export interface FoundLine {
  /** As it was written. */
  text: string
  entry: LogEntry
}

/** @throws {ThroughlineError} `FILES_UNREADABLE` */
export async function* findLogs(query: LogQuery): AsyncGenerator<FoundLine> {
  const { paths, filter, containing, tally, names } = query
  const matches = filter === undefined ? () => true : matcherOf(filter)
  const sieve = filter === undefined ? undefined : sampling(sieveOf(filter))
  let sampled = 0
  for await (const text of readSources(paths, { tally, sieve, filter, ...(containing && { containing }) })) {
    if (text.trim() === '') continue
    const entry = parseObject(text)
    if (entry === undefined) {
      tally.unreadableLines += 1
      continue
    }
    if (names !== undefined && sampled < SAMPLED_LINES) noteFields(names, entry)
    sampled += 1
    if (matches(entry)) yield { text, entry }
  }
}

/** The same, but for the first lines, which all pass. */
function sampling(sieve: Sieve | undefined): Sieve | undefined {
  let left = SAMPLED_LINES
  return sieve && { ...sieve, lets: (start, end) => left-- > 0 || sieve.lets(start, end) }
}
