/**
 * Found lines with what the same request wrote around them: lines that stand beside each other in a file mostly belong
 * to others.
 */

import { LOG_FIELD } from '../../telemetry/names.js'
import { parseObject } from '../files/loose-json.js'
import type { ReadLine } from './log-line.js'

/** Bounds on what is kept, for a file may hold any number of requests: lines, and their length in UTF-16 units. */
const MAX_KEPT_LINES = 20_000
const MAX_KEPT_UNITS = 8 * 1024 * 1024

/** So many lines of the file after it, a request is taken for over: its group waits no longer for lines. */
const MAX_WAIT_LINES = 5_000

/** Lines of one request, the first of them found or followed by one that is. */
interface Group {
  id: string | undefined
  lines: ReadLine[]
  /** Lines that may still come. */
  left: number
  /** Number of the line, in the file, that was found first. */
  began: number
}

/**
 * Groups of lines of one request each, in the order in which their first lines were found. No line stands in two.
 *
 * @param lines all, in the order of the file
 * @param count lines of context before a found line, and after it
 */
export async function* inContext(lines: AsyncIterable<ReadLine>, count: number): AsyncGenerator<ReadLine[]> {
  const before = new LinesBefore(count)
  /** In the order of their beginning; those of them that still wait, by request. */
  const groups: Group[] = []
  const waiting = new Map<string, Group>()
  let number = 0
  let waitingUnits = 0
  for await (const line of lines) {
    number += 1
    const id = requestOf(line)
    let group = id === undefined ? undefined : waiting.get(id)
    if (line.isFound && group === undefined) {
      group = { id, lines: id === undefined ? [] : before.take(id), left: 0, began: number }
      for (const { text } of group.lines) waitingUnits += text.length
      groups.push(group)
      if (id !== undefined) waiting.set(id, group)
    }
    if (group !== undefined) {
      group.lines.push(line)
      group.left = line.isFound ? count : group.left - 1
      if (id !== undefined && group.left === 0) waiting.delete(id)
      waitingUnits += line.text.length
    } else if (id !== undefined) {
      before.add(id, line)
    }
    for (let [first] = groups; first !== undefined; [first] = groups) {
      if (!isOver(first, number) && waitingUnits <= MAX_KEPT_UNITS) break
      if (first.id !== undefined && waiting.get(first.id) === first) waiting.delete(first.id)
      groups.shift()
      for (const { text } of first.lines) waitingUnits -= text.length
      yield first.lines
    }
  }
  for (const { lines } of groups) yield lines
}

function isOver({ id, left, began }: Group, number: number): boolean {
  return id === undefined || left === 0 || number - began > MAX_WAIT_LINES
}

/** The last lines of each request, as long as none of them is found: as texts, which take less room than entries. */
class LinesBefore {
  readonly #count: number
  /** The request that was written to least recently comes first. */
  readonly #texts = new Map<string, string[]>()
  #keptLines = 0
  #keptUnits = 0

  constructor(count: number) {
    this.#count = count
  }

  add(id: string, { text }: ReadLine): void {
    const texts = this.#remove(id)
    texts.push(text)
    if (texts.length > this.#count) texts.shift()
    this.#texts.set(id, texts)
    this.#note(texts, 1)
    for (const [oldest] of this.#texts) {
      if (this.#keptLines <= MAX_KEPT_LINES && this.#keptUnits <= MAX_KEPT_UNITS) break
      this.#remove(oldest)
    }
  }

  take(id: string): ReadLine[] {
    return this.#remove(id).map((text) => ({ text, entry: parseObject(text) ?? {}, isFound: false }))
  }

  #remove(id: string): string[] {
    const texts = this.#texts.get(id) ?? []
    this.#texts.delete(id)
    this.#note(texts, -1)
    return texts
  }

  #note(texts: readonly string[], sign: 1 | -1): void {
    this.#keptLines += sign * texts.length
    for (const text of texts) this.#keptUnits += sign * text.length
  }
}

function requestOf({ entry }: ReadLine): string | undefined {
  const id = entry[LOG_FIELD.correlationId] ?? entry[LOG_FIELD.traceId]
  return typeof id === 'string' && id !== '' ? id : undefined
}
