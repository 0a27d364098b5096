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
import type { Sieve } from '../filter/sieve.js'

/** What a core's cache holds: of larger ones each byte is fetched from memory twice. */
const CHUNK_BYTES = 256 * 1024

/** A longer line is skipped and counted, in bytes: twice the largest file that we write ourselves. */
const MAX_LINE_BYTES = 32 * 1024 * 1024

const [LINE_END, CARRIAGE_RETURN, OPENING_BRACE, CLOSING_BRACE] = [0x0a, 0x0d, 0x7b, 0x7d]

/** What was read so far, for the message when nothing is found. */
export interface ReadTally {
  files: number
  /** Lines that are not what they should be: torn, not JSON, too long. */
  unreadableLines: number
  /** As they lie on the disk: packed ones are counted packed. */
  bytes?: number
}

export interface ReadOptions {
  /** Only lines that have at least one of these texts. Default: all lines. */
  containing?: readonly string[]
  /** Only lines that it lets pass. Not with `containing`, which needs none. */
  sieve?: Sieve | undefined
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
      if (!(isSkipping && bytesRead === 0)) yield* select(buffer.subarray(start, whole))
      isSkipping = false
      buffer.copyWithin(0, whole, filled)
      filled -= whole
    }
    if (bytesRead === 0) return
  }
}

/** Takes the lines out of a block, which ends at a line end or at the end of the file. */
type Selection = (block: Buffer) => Iterable<string>

function selectionOf({ containing, sieve }: ReadOptions): Selection {
  if (containing !== undefined) {
    // An ID stands in a file as JSON wrote it.
    const needles = containing.map((text) => Buffer.from(JSON.stringify(text).slice(1, -1)))
    return (block) => linesWith(needles, block)
  }
  return sieve === undefined ? allLines : (block) => siftedLines(sieve, block)
}

function* linesWith(needles: readonly Buffer[], block: Buffer): Generator<string> {
  for (const start of startsOfMatches(block, needles))
    yield block.toString('utf8', start, endOfLine(block, start))
}

function* allLines(block: Buffer): Generator<string> {
  for (let start = 0; start < block.length; ) {
    const end = endOfLine(block, start)
    if (end > start) yield block.toString('utf8', start, end)
    start = end + 1
  }
}

/** What neither begins nor ends as an object does passes too: whoever parses it counts it. */
function* siftedLines(sieve: Sieve, block: Buffer): Generator<string> {
  sieve.begin(block)
  for (let start = 0; start < block.length; ) {
    const end = endOfLine(block, start)
    if (end > start) {
      const last = block[end - 1] === CARRIAGE_RETURN ? end - 2 : end - 1
      const isObject = block[start] === OPENING_BRACE && block[last] === CLOSING_BRACE
      if (!isObject || sieve.lets(start, end)) yield block.toString('utf8', start, end)
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
