/** Parts of a file that grows, each of whole lines. */
import { readSync } from 'node:fs'
import { LINE_END } from './line-selection.js'
import type { ByteSource, ReadTally } from './ndjson-files.js'

const BLOCK_BYTES = 64 * 1024

/** Its bytes from `start` up to `end`. */
export function bytesBetween(descriptor: number, start: number, end: number, tally: ReadTally): ByteSource {
  let at = start
  return {
    read(buffer, offset, length) {
      const bytesRead = readSync(descriptor, buffer, offset, Math.min(length, end - at), at)
      at += bytesRead
      tally.bytes = (tally.bytes ?? 0) + bytesRead
      return bytesRead
    },
  }
}

/** Where the last line that ends before `end` does: `start` when none does. What follows is still being written. */
export function lastLineEnd(descriptor: number, start: number, end: number): number {
  const block = Buffer.allocUnsafe(BLOCK_BYTES)
  for (let to = end; to > start; ) {
    const from = Math.max(start, to - BLOCK_BYTES)
    const bytesRead = readSync(descriptor, block, 0, to - from, from)
    const found = block.subarray(0, bytesRead).lastIndexOf(LINE_END)
    if (found !== -1) return from + found + 1
    to = from
  }
  return start
}
