/** Lines merged by time into one file, and those that a Parquet file cannot take into another. */
import * as fs from 'node:fs'
import { type StagedLines, stagedLine } from '../duckdb/write-parquet.js'
import type { ReadTally } from '../files/ndjson-files.js'
import { mergeByTime } from './merge-by-time.js'

export interface StageData {
  sources: readonly string[]
  /** The two files. */
  staged: string
  rest: string
}

export interface Staged {
  lines: StagedLines
  restLines: number
  /** Lines that are too long to be read: they are in neither. */
  unreadLines: number
}

/** What a thread says: how far it is, and at the end what it has done. */
export type StageMessage = { readBytes: number } | Staged

export async function stageLines(
  { sources, staged, rest }: StageData,
  onBytes: (read: number) => void,
): Promise<Staged> {
  const files = { lines: new BufferedFile(staged), rest: new BufferedFile(rest) }
  const tally: ReadTally = { files: 0, unreadableLines: 0 }
  const lines: StagedLines = { count: 0, longest: 0 }
  let restLines = 0
  let toldBytes = 0
  try {
    for await (const { entry, text } of mergeByTime(sources, tally)) {
      const line = entry === undefined ? undefined : stagedLine(entry, text)
      if (line !== undefined) {
        files.lines.write(line)
        lines.count += 1
        lines.longest = Math.max(lines.longest, line.length)
      } else if (text.trim() !== '') {
        files.rest.write(`${text}\n`)
        restLines += 1
      }
      const { bytes = 0 } = tally
      if (bytes - toldBytes > TOLD_BYTES) {
        onBytes(bytes)
        toldBytes = bytes
      }
    }
    return { lines, restLines, unreadLines: tally.unreadableLines }
  } finally {
    files.lines.close()
    files.rest.close()
  }
}

/** How far it is, is told after so many bytes. */
const TOLD_BYTES = 4 * 1024 * 1024

const BUFFERED_BYTES = 1024 * 1024

/** The most that UTF-8 makes of a UTF-16 unit. */
const BYTES_OF_UNIT = 3

/** One buffer for all lines: a text and its bytes for each write would lie in memory until they are collected. */
class BufferedFile {
  readonly #descriptor: number
  readonly #buffer = Buffer.allocUnsafe(BUFFERED_BYTES)
  #filled = 0

  constructor(path: string) {
    this.#descriptor = fs.openSync(path, 'w')
  }

  write(line: string): void {
    const mostBytes = line.length * BYTES_OF_UNIT
    if (mostBytes > BUFFERED_BYTES - this.#filled) this.#flush()
    if (mostBytes > BUFFERED_BYTES) fs.writeFileSync(this.#descriptor, line)
    else this.#filled += this.#buffer.write(line, this.#filled)
  }

  close(): void {
    this.#flush()
    fs.closeSync(this.#descriptor)
  }

  #flush(): void {
    fs.writeFileSync(this.#descriptor, this.#buffer.subarray(0, this.#filled))
    this.#filled = 0
  }
}
