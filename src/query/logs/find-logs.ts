/** The lines that a filter finds, one after the other. */

import { parseObject } from '../files/loose-json.js'
import type { ReadOptions, ReadTally } from '../files/ndjson-files.js'
import { readSources } from '../files/sources.js'
import type { Filter } from '../filter/ast.js'
import { noteFields } from '../filter/fields.js'
import { matcherOf } from '../filter/match.js'
import { type Sieve, sieveOf } from '../filter/sieve.js'
import { inContext } from './context-lines.js'
import type { FoundLine, ReadLine } from './log-line.js'

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

/** @throws {ThroughlineError} `FILES_UNREADABLE` */
export async function* findLogs(query: LogQuery): AsyncGenerator<FoundLine> {
  yield* foundIn(readSources(query.paths, lineSelection(query)), query)
}

/** Those of the given lines that are found; what is no line is counted. */
export async function* foundIn(lines: AsyncIterable<string>, query: LogQuery): AsyncGenerator<FoundLine> {
  for await (const line of readLines(lines, query)) if (line.isFound) yield line
}

/** Which lines have to be looked at. */
export function lineSelection({
  filter,
  containing,
  tally,
}: LogQuery): ReadOptions & Pick<LogQuery, 'tally'> {
  const sieve = filter === undefined ? undefined : sampling(sieveOf(filter))
  return { tally, sieve, filter, ...(containing && { containing }) }
}

/**
 * Each line that is found, with as many of the same request before and after it. Every line is parsed.
 *
 * @throws {ThroughlineError} `FILES_UNREADABLE`
 */
export async function* findLogsInContext(query: LogQuery, count: number): AsyncGenerator<ReadLine[]> {
  const { paths, tally } = query
  yield* inContext(readLines(readSources(paths, { tally }), query), count)
}

/** All lines that are given, parsed; what is none is counted. */
export async function* readLines(
  lines: AsyncIterable<string>,
  { filter, tally, names }: Pick<LogQuery, 'filter' | 'tally' | 'names'>,
): AsyncGenerator<ReadLine> {
  const matches = filter === undefined ? () => true : matcherOf(filter)
  let sampled = 0
  for await (const text of lines) {
    if (text.trim() === '') continue
    const entry = parseObject(text)
    if (entry === undefined) {
      tally.unreadableLines += 1
      continue
    }
    if (names !== undefined && sampled < SAMPLED_LINES) noteFields(names, entry)
    sampled += 1
    yield { text, entry, isFound: matches(entry) }
  }
}

/** The same, but for the first lines, which all pass. */
function sampling(sieve: Sieve | undefined): Sieve | undefined {
  let left = SAMPLED_LINES
  return sieve && { ...sieve, lets: (start, end) => left-- > 0 || sieve.lets(start, end) }
}
