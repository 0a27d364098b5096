/** The lines that begin in a part of a file, whichever thread reads the parts beside it. */
import { closeSync, openSync, readSync } from 'node:fs'
import { LINE_END, type Selection, textsAt } from './line-selection.js'
import { CHUNK_BYTES, isMissing, MAX_LINE_BYTES, unreadable } from './ndjson-files.js'

export interface Slice {
  path: string
  /** Bytes of the file. */
  start: number
  end: number
}

export interface SliceLines {
  texts: string[]
  /** Lines that are longer than may be read. */
  tooLong: number
}

/** Keeps the file open that it read from last. */
export class SliceReader {
  #path: string | undefined
  #descriptor: number | undefined

  /** A file that is gone has no lines. @throws {ThroughlineError} `FILES_UNREADABLE` */
  lines(slice: Slice, select: Selection): SliceLines {
    try {
      if (slice.path !== this.#path) this.#open(slice.path)
      return linesOfSlice(this.#descriptor ?? -1, slice, select)
    } catch (error) {
      if (isMissing(error)) return { texts: [], tooLong: 0 }
      throw unreadable(slice.path, error)
    }
  }

  #open(path: string): void {
    this.close()
    this.#descriptor = openSync(path, 'r')
    this.#path = path
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor)
    this.#descriptor = undefined
    this.#path = undefined
  }
}

/** Of an open file. The last line that begins in the slice is read to its end, which may lie beyond it. */
function linesOfSlice(descriptor: number, { start, end }: Slice, select: Selection): SliceLines {
  const found: SliceLines = { texts: [], tooLong: 0 }
  let buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  // Where the buffer's first byte stands in the file, and how many of its bytes are read.
  let base = Math.max(0, start - 1)
  let filled = 0
  // A line that began before is another slice's; of one that is too long, the rest is left out.
  let isSkipping = start > 0
  while (base < end) {
    if (filled === buffer.length) {
      if (isSkipping || filled >= MAX_LINE_BYTES) {
        if (!isSkipping) found.tooLong += 1
        isSkipping = true
        base += filled
        filled = 0
      } else buffer = Buffer.concat([buffer], buffer.length * 2)
    }
    const bytesRead = readSync(descriptor, buffer, filled, buffer.length - filled, base + filled)
    filled += bytesRead
    if (isSkipping) {
      const skipped = buffer.subarray(0, filled).indexOf(LINE_END) + 1
      if (skipped === 0 && bytesRead > 0) continue
      buffer.copyWithin(0, skipped, filled)
      base += skipped === 0 ? filled : skipped
      filled = skipped === 0 ? 0 : filled - skipped
      isSkipping = false
      if (bytesRead > 0) continue
    }
    const whole = wholeLines(buffer.subarray(0, filled), end - base, bytesRead === 0)
    if (whole > 0) {
      const block = buffer.subarray(0, whole)
      const ranges: number[] = []
      select(block, ranges)
      for (const text of textsAt(block, ranges)) found.texts.push(text)
      buffer.copyWithin(0, whole, filled)
      base += whole
      filled -= whole
    }
    if (bytesRead === 0) break
  }
  return found
}

/** Length of the lines at the beginning of the bytes that are whole, and begin within so many bytes. */
function wholeLines(bytes: Buffer, within: number, isEndOfFile: boolean): number {
  if (bytes.length > within) {
    const end = bytes.indexOf(LINE_END, Math.max(0, within - 1))
    if (end !== -1) return end + 1
  }
  return isEndOfFile ? bytes.length : bytes.lastIndexOf(LINE_END) + 1
}
