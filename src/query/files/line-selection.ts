/** Which lines of a block of bytes have to be looked at. */
import type { Filter } from '../filter/ast.js'
import { matcherOf } from '../filter/match.js'
import type { Sieve } from '../filter/sieve.js'
import { parseObject } from './loose-json.js'

export const LINE_END = 0x0a
const [CARRIAGE_RETURN, OPENING_BRACE, CLOSING_BRACE] = [0x0d, 0x7b, 0x7d]

export interface LinesWanted {
  /** Only lines that have at least one of these texts. Default: all lines. */
  containing?: readonly string[] | undefined
  /** Only lines that it lets pass. Not with `containing`, which needs none. */
  sieve?: Sieve | undefined
}

/**
 * Adds where each line that is wanted begins and ends, one after the other.
 *
 * @param block ends at a line end, or at the end of the file
 */
export type Selection = (block: Buffer, ranges: number[]) => void

export function selectionOf({ containing, sieve }: LinesWanted): Selection {
  if (containing !== undefined) {
    // An ID stands in a file as JSON wrote it.
    const needles = containing.map((text) => Buffer.from(JSON.stringify(text).slice(1, -1)))
    return (block, ranges) => linesWith(needles, block, ranges)
  }
  return sieve === undefined ? allLines : (block, ranges) => siftedLines(sieve, block, ranges)
}

/** The same, without the lines that the filter does not match. What is no JSON stays, for whoever counts it. */
export function matchingSelection(select: Selection, filter: Filter): Selection {
  const matches = matcherOf(filter)
  return (block, ranges) => {
    const selected: number[] = []
    select(block, selected)
    for (let at = 0; at < selected.length; at += 2) {
      const [start = 0, end = 0] = [selected[at], selected[at + 1]]
      const entry = parseObject(block.toString('utf8', start, end))
      if (entry === undefined || matches(entry)) ranges.push(start, end)
    }
  }
}

/** The texts at these places. */
export function* textsAt(block: Buffer, ranges: readonly number[]): Generator<string> {
  for (let at = 0; at < ranges.length; at += 2) yield block.toString('utf8', ranges[at], ranges[at + 1])
}

function linesWith(needles: readonly Buffer[], block: Buffer, ranges: number[]): void {
  for (const start of startsOfMatches(block, needles)) ranges.push(start, endOfLine(block, start))
}

function allLines(block: Buffer, ranges: number[]): void {
  for (let start = 0; start < block.length; ) {
    const end = endOfLine(block, start)
    if (end > start) ranges.push(start, end)
    start = end + 1
  }
}

/** What neither begins nor ends as an object does is wanted too: whoever parses it counts it. */
function siftedLines(sieve: Sieve, block: Buffer, ranges: number[]): void {
  sieve.begin(block)
  for (let start = 0; start < block.length; ) {
    const end = endOfLine(block, start)
    if (end > start) {
      const last = block[end - 1] === CARRIAGE_RETURN ? end - 2 : end - 1
      const isObject = block[start] === OPENING_BRACE && block[last] === CLOSING_BRACE
      if (!isObject || sieve.lets(start, end)) ranges.push(start, end)
    }
    start = end + 1
  }
}

function startsOfMatches(block: Buffer, needles: readonly Buffer[]): number[] {
  const starts = new Set<number>()
  for (const needle of needles) {
    for (let at = block.indexOf(needle); at !== -1; ) {
      // A negative offset would count from the end.
      starts.add(at === 0 ? 0 : block.lastIndexOf(LINE_END, at - 1) + 1)
      at = block.indexOf(needle, endOfLine(block, at))
    }
  }
  return [...starts].sort((a, b) => a - b)
}

function endOfLine(block: Buffer, from: number): number {
  const end = block.indexOf(LINE_END, from)
  return end === -1 ? block.length : end
}
