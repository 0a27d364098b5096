/**
 * Lines out of bytes, in bounded memory.
 *
 * Looking for one ID does not parse what lacks it: `containing` is searched for in the bytes, which is as
 * quick as grep, and only lines that have it are made into strings.
 */
import { readSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { setImmediate } from 'node:timers/promises'
import { ThroughlineError } from '../../errors.js'
import type { Filter } from '../filter/ast.js'
import { LINE_END, type LinesWanted, selectionOf, textsAt } from './line-selection.js'

/** What a core's cache holds: of larger ones each byte is fetched from memory twice. */
export const CHUNK_BYTES = 256 * 1024

/** A longer line is skipped and counted, in bytes: twice the largest file that we write ourselves. */
export const MAX_LINE_BYTES = 32 * 1024 * 1024

/** What was read so far, for the message when nothing is found. */
export interface ReadTally {
  files: number
  /** Lines that are not what they should be: torn, not JSON, too long. */
  unreadableLines: number
  /** As they lie on the disk: packed ones are counted packed. */
  bytes?: number
}

export interface ReadOptions extends LinesWanted {
  /** What is asked for: Parquet files are not read where they lack it. */
  filter?: Filter | undefined
  /** Counted up while reading. */
  tally?: ReadTally
}

/** What bytes are read from: a file, or a stream behind the same method. */
export interface ByteSource {
  /** How many bytes were put into the buffer; 0 at the end. */
  read(buffer: Buffer, offset: number, length: number): number | Promise<number>
}

/** After so many bytes timers and signals get their turn. */
const PAUSE_BYTES = 8 * 1024 * 1024

/** A file is read while nothing else is done: a call to another thread for each block would take longer than the block. */
export function bytesOfFile({ fd }: FileHandle, tally: ReadTally): ByteSource {
  let sincePause = 0
  return {
    read(buffer, offset, length) {
      const bytesRead = readSync(fd, buffer, offset, length, null)
      tally.bytes = (tally.bytes ?? 0) + bytesRead
      sincePause += bytesRead
      if (sincePause < PAUSE_BYTES) return bytesRead
      sincePause = 0
      return setImmediate(bytesRead)
    },
  }
}

// A file can be dropped by its writer between listing and opening.
export async function openFile(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw unreadable(path, error)
  }
}

/** Lines, in bounded memory. */
export async function* linesOf(
  file: ByteSource,
  options: ReadOptions,
  tally: ReadTally,
): AsyncGenerator<string> {
  const select = selectionOf(options)
  let buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  let filled = 0
  let isSkipping = false
  for (;;) {
    if (filled === buffer.length) {
      if (filled < MAX_LINE_BYTES) buffer = Buffer.concat([buffer], buffer.length * 2)
      else {
        if (!isSkipping) tally.unreadableLines += 1
        isSkipping = true
        filled = 0
      }
    }
    const bytesRead = await file.read(buffer, filled, buffer.length - filled)
    const lineEnd = buffer.subarray(filled, filled + bytesRead).lastIndexOf(LINE_END)
    const whole = bytesRead === 0 ? filled : lineEnd === -1 ? 0 : filled + lineEnd + 1
    filled += bytesRead
    if (whole > 0) {
      const start = isSkipping ? buffer.indexOf(LINE_END) + 1 : 0
      if (!(isSkipping && bytesRead === 0)) {
        const block = buffer.subarray(start, whole)
        const ranges: number[] = []
        select(block, ranges)
        yield* textsAt(block, ranges)
      }
      isSkipping = false
      buffer.copyWithin(0, whole, filled)
      filled -= whole
    }
    if (bytesRead === 0) return
  }
}

export function isMissing(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'ENOENT'
}

export function unreadable(path: string, cause: unknown): ThroughlineError {
  const why = cause instanceof Error ? `${cause.message}.` : `${cause}.`
  return new ThroughlineError('FILES_UNREADABLE', `${path} cannot be read.`, {
    why,
    fix: 'Read it as the user who wrote it, or name another directory with --dir or THROUGHLINE_DIR.',
    cause,
  })
}
