/**
 * Appends lines to files that stay small and few.
 *
 *   <folder>/20261124T041500Z-4711-0001.ndjson    time, process, number: names sort by time
 *
 * Writes are synchronous on purpose: when `write` returns, the line is with the operating system, and a
 * crash of the process loses nothing. A buffer would lose the lines that explain the crash. It costs
 * about 6 µs a line; these files are the default only outside production.
 *
 * A file holds lines of one UTC day, so that the files of a day that has passed can be packed or removed.
 *
 * pino-roll (4.0) is no substitute: in one folder, several processes take the same file and each counts its own
 * bytes alone, a file that was removed is written on unseen, and a full disk is an `error` event that ends the
 * process. As a destination of `createLogger` it works.
 */
import { closeSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { FILE_ENDING } from '../../src/telemetry/local-directory.js'
import { prepareFolder } from './prepare-folder.js'

const MEBIBYTE = 1024 * 1024

/** Most files kept in a folder: a development server that restarts all day writes many small ones. */
const MAX_FILES = 500

const DAY_MS = 24 * 60 * 60 * 1000

/** How long nothing is tried after a failure, in milliseconds. */
const RETRY_AFTER_MS = 5000

export interface RotatingFileOptions {
  /** A file that would grow beyond this is closed and the next begun, in bytes. Default 16 MiB. */
  maxFileBytes?: number
  /**
   * Size of a folder, in bytes, beyond which its oldest files are dropped. Default 256 MiB. Several
   * processes may exceed it, by one file each.
   */
  maxTotalBytes?: number
  /** Called once, with the first failure. Default: a process warning. */
  onFailure?: (error: Error) => void
  /** The present, in epoch milliseconds. Default: the system's clock. */
  nowMs?: () => number
}

/**
 * One process's file in `<directory>/<folder>`. It never throws into the caller: when the disk is full or
 * the directory cannot be written, lines are dropped and counted, and the failure is reported once.
 *
 * Any number of processes, and of writers in one process, may share a folder: each has its own file.
 */
export class RotatingFile {
  readonly #directory: string
  readonly #folder: string
  readonly #maxFileBytes: number
  readonly #maxTotalBytes: number
  readonly #nowMs: () => number
  readonly #onFailure: (error: Error) => void
  #file: { path: string; descriptor: number; day: number } | undefined
  #retryAtMs = Number.NEGATIVE_INFINITY
  #isReported = false
  #droppedLines = 0

  /** @throws {TypeError} for a limit that is not a positive whole number. */
  constructor(directory: string, folder: string, options: RotatingFileOptions = {}) {
    this.#directory = directory
    this.#folder = join(directory, folder)
    this.#maxFileBytes = positive('maxFileBytes', options.maxFileBytes ?? 16 * MEBIBYTE)
    this.#maxTotalBytes = positive('maxTotalBytes', options.maxTotalBytes ?? 256 * MEBIBYTE)
    this.#nowMs = options.nowMs ?? systemTimeMs
    this.#onFailure =
      options.onFailure ?? ((error) => process.emitWarning(error.message, 'ThroughlineWarning'))
  }

  /** How many lines could not be written so far. */
  get droppedLines(): number {
    return this.#droppedLines
  }

  /** Appends one line; a missing line end is added. False when it had to be dropped. */
  write(line: string | Uint8Array): boolean {
    const nowMs = this.#nowMs()
    if (nowMs < this.#retryAtMs) {
      this.#droppedLines += 1
      return false
    }
    try {
      const bytes = endedLine(line)
      append(this.#fileFor(bytes.length, nowMs), bytes)
      return true
    } catch (error) {
      this.#fail(error)
      return false
    }
  }

  /** Closes the file. A later write begins another. */
  close(): void {
    const file = this.#file
    this.#file = undefined
    if (file === undefined) return
    try {
      closeSync(file.descriptor)
    } catch {
      // What could be lost was reported by the write that lost it.
    }
  }

  // The file is looked up by its path each time: `rm -r .throughline` while a server runs, or another
  // process dropping the oldest file, would otherwise leave us writing to a file nobody can open.
  #fileFor(byteLength: number, nowMs: number): number {
    if (this.#file !== undefined) {
      const isOfAnotherDay = this.#file.day !== dayOf(nowMs)
      const found = statSync(this.#file.path, { throwIfNoEntry: false })
      const isFull = found !== undefined && found.size > 0 && found.size + byteLength > this.#maxFileBytes
      if (found === undefined || isFull || isOfAnotherDay) this.close()
    }
    this.#file ??= this.#open(nowMs)
    return this.#file.descriptor
  }

  #open(nowMs: number): { path: string; descriptor: number; day: number } {
    prepareFolder(this.#directory, this.#folder)
    dropOldest(this.#folder, this.#maxTotalBytes - this.#maxFileBytes)
    // `new Date()` without an argument would abort a Next prerender that happens to log.
    const time = new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '')
    for (let number = 1; ; number += 1) {
      const name = `${time}-${process.pid}-${String(number).padStart(4, '0')}${FILE_ENDING}`
      const path = join(this.#folder, name)
      try {
        // `x`: two writers of one process must not share a file, or neither could tell when it is full.
        return { path, descriptor: openSync(path, 'ax'), day: dayOf(nowMs) }
      } catch (error) {
        if (codeOf(error) !== 'EEXIST') throw error
      }
    }
  }

  #fail(error: unknown): void {
    this.#droppedLines += 1
    this.#retryAtMs = this.#nowMs() + RETRY_AFTER_MS
    const path = this.#file?.path
    // A torn line may be left at the end: the file is given up, so that the next line begins clean.
    this.close()
    if (path !== undefined) removeIfEmpty(path)
    if (this.#isReported) return
    this.#isReported = true
    this.#onFailure(
      new Error(
        `Throughline cannot write to ${this.#folder} (${codeOf(error) ?? 'error'}), so lines are dropped; the app runs on. ` +
          'Make the directory writable, free disk space, or set THROUGHLINE_DIR to another directory.',
        { cause: error },
      ),
    )
  }
}

/** Days since 1970, in UTC. */
function dayOf(epochMs: number): number {
  return Math.floor(epochMs / DAY_MS)
}

function append(descriptor: number, bytes: Uint8Array): void {
  // A nearly full disk takes a part of a line.
  for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written)
}

/** Removes the oldest files until those left are small and few enough. */
function dropOldest(folder: string, maxBytes: number): void {
  const files = readdirSync(folder)
    .filter((name) => name.endsWith(FILE_ENDING))
    .sort()
    .map((name) => join(folder, name))
    .map((path) => ({ path, bytes: statSync(path, { throwIfNoEntry: false })?.size ?? 0 }))
  let totalBytes = files.reduce((sum, file) => sum + file.bytes, 0)
  let count = files.length
  for (const file of files) {
    if (totalBytes <= maxBytes && count < MAX_FILES) return
    // `force`: another process may have been quicker.
    rmSync(file.path, { force: true })
    totalBytes -= file.bytes
    count -= 1
  }
}

function removeIfEmpty(path: string): void {
  try {
    if (statSync(path, { throwIfNoEntry: false })?.size === 0) rmSync(path, { force: true })
  } catch {
    // Tidying only.
  }
}

const LINE_END = 0x0a

function endedLine(line: string | Uint8Array): Uint8Array {
  if (typeof line === 'string') return Buffer.from(line.endsWith('\n') ? line : `${line}\n`)
  if (line.at(-1) === LINE_END) return line
  const ended = new Uint8Array(line.length + 1)
  ended.set(line)
  ended[line.length] = LINE_END
  return ended
}

function positive(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value > 0) return value
  throw new TypeError(`RotatingFile: "${name}" must be a positive whole number of bytes, received ${value}.`)
}

// Not `Date.now()`: Next aborts a prerender that calls it.
function systemTimeMs(): number {
  return performance.timeOrigin + performance.now()
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}
