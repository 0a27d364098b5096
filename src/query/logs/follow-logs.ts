/**
 * Lines as they are written, whatever becomes of the files: a file that is renamed is read to its end, one that takes
 * its place or appears beside it is read from its beginning, and one that was cut is read from its beginning again.
 *
 * Files are looked at again and again: a notice of a change does not reach a container, nor a network's disk.
 */

import { closeSync, fstatSync, openSync, type Stats, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytesBetween, lastLineEnd } from '../files/file-slices.js'
import { isMissing, linesOf, type ReadTally, unreadable } from '../files/ndjson-files.js'
import { filesAt, isPlainFile } from '../files/sources.js'
import { foundIn, type LogQuery, lineSelection } from './find-logs.js'
import type { FoundLine } from './log-line.js'

const EVERY_MS = 250

/** Files that are kept open, so that nothing is lost when they are renamed: those that changed last. */
const MAX_OPEN = 64

export interface FollowQuery extends LogQuery {
  /** Ends it. */
  signal: AbortSignal
  /** How long to wait before the files are looked at again, in milliseconds. Default 250. */
  everyMs?: number
}

interface FollowedFile {
  descriptor: number | undefined
  path: string
  /** Up to where its lines were read. */
  offset: number
  changedMs: number
  /** How often it was not among the files any more. */
  looksGone: number
}

/** A file that is renamed gets lines until its writer opens the next: it is read for so long, in looks. */
const MAX_LOOKS_GONE = 40

export interface FollowedLogs {
  /** Where the files end, by path: what stands before it is not among `lines`. */
  ends: ReadonlyMap<string, number>
  lines: AsyncGenerator<FoundLine>
}

/** @throws {ThroughlineError} `FILES_UNREADABLE` */
export async function followLogs(query: FollowQuery): Promise<FollowedLogs> {
  const followed = new FollowedFiles(query.tally)
  await followed.look(query.paths, 'at-end')
  return { ends: followed.ends(), lines: linesOfFollowed(followed, query) }
}

async function* linesOfFollowed(followed: FollowedFiles, query: FollowQuery): AsyncGenerator<FoundLine> {
  const { paths, tally, signal, everyMs = EVERY_MS } = query
  const selection = lineSelection(query)
  try {
    while (!signal.aborted) {
      // Those that are open first: one that was renamed may have got lines before another took its place.
      for (const isLooked of [false, true]) {
        if (isLooked) await followed.look(paths, 'at-start')
        for (const bytes of followed.grown()) {
          yield* foundIn(linesOf(bytes, selection, tally), query)
        }
      }
      await sleep(everyMs, undefined, { signal }).catch(() => {})
    }
  } finally {
    followed.close()
  }
}

class FollowedFiles {
  readonly #tally: ReadTally
  /** By what stays when a file is renamed. */
  readonly #files = new Map<string, FollowedFile>()

  constructor(tally: ReadTally) {
    this.#tally = tally
  }

  /** Takes note of files that are new, and lets go of those that are gone. */
  async look(paths: readonly string[], newAre: 'at-start' | 'at-end'): Promise<void> {
    // All that are open have been read.
    const latestFirst = [...this.#files.values()].sort((a, b) => b.changedMs - a.changedMs)
    for (const file of latestFirst.slice(MAX_OPEN)) close(file)
    const present = new Set<string>()
    for (const path of await filesThere(paths)) {
      const stats = statsOf(path)
      if (stats === undefined) continue
      const id = `${stats.dev}:${stats.ino}:${stats.birthtimeMs}`
      present.add(id)
      const known = this.#files.get(id)
      if (known !== undefined) {
        known.path = path
        known.looksGone = 0
        if (stats.size !== known.offset && known.descriptor === undefined) open(known)
        continue
      }
      const file: FollowedFile = {
        ...{ descriptor: undefined, path, offset: 0 },
        ...{ changedMs: stats.mtimeMs, looksGone: 0 },
      }
      open(file)
      if (newAre === 'at-end' && file.descriptor !== undefined)
        file.offset = lastLineEnd(file.descriptor, 0, fstatSync(file.descriptor).size)
      this.#files.set(id, file)
      this.#tally.files += 1
    }
    for (const [id, file] of this.#files) {
      if (present.has(id)) continue
      file.looksGone += 1
      if (file.looksGone <= MAX_LOOKS_GONE && file.descriptor !== undefined) continue
      close(file)
      this.#files.delete(id)
    }
  }

  ends(): Map<string, number> {
    return new Map([...this.#files.values()].map(({ path, offset }) => [path, offset]))
  }

  /** What was added to each, up to the end of its last line. */
  *grown() {
    for (const file of this.#files.values()) {
      const { descriptor } = file
      if (descriptor === undefined) continue
      const { size, mtimeMs } = fstatSync(descriptor)
      file.changedMs = mtimeMs
      if (size < file.offset) file.offset = 0
      const end = lastLineEnd(descriptor, file.offset, size)
      if (end === file.offset) continue
      yield bytesBetween(descriptor, file.offset, end, this.#tally)
      file.offset = end
    }
  }

  close(): void {
    for (const file of this.#files.values()) close(file)
  }
}

/** Plain files: a packed one was read when it was none. */
async function filesThere(paths: readonly string[]): Promise<string[]> {
  const files: string[] = []
  for (const path of paths) {
    try {
      files.push(...(await filesAt(path)).filter(isPlainFile))
    } catch (error) {
      if (!isMissing((error as { cause?: unknown }).cause)) throw error
    }
  }
  return files
}

function statsOf(path: string): Stats | undefined {
  try {
    return statSync(path)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw unreadable(path, error)
  }
}

function open(file: FollowedFile): void {
  try {
    file.descriptor = openSync(file.path, 'r')
  } catch (error) {
    if (!isMissing(error)) throw unreadable(file.path, error)
  }
}

function close(file: FollowedFile): void {
  if (file.descriptor !== undefined) closeSync(file.descriptor)
  file.descriptor = undefined
}
