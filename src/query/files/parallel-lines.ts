/**
 * Lines of large files, looked for by several threads at once, and given in the order in which they stand.
 *
 *   slice   0    1    2    3    4    5    …     each thread takes the next one that nobody has
 *          this  A   this  A    A   this        this thread too, whenever the one it has to give next is not there
 *
 * Threads run no further ahead than `AHEAD` slices, so that memory stays bounded where few lines are read.
 */
import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import type { Filter } from '../filter/ast.js'
import { sieveOf } from '../filter/sieve.js'
import { matchingSelection, type Selection, selectionOf } from './line-selection.js'
import type { ReadTally } from './ndjson-files.js'
import { type Slice, type SliceLines, SliceReader } from './slice-lines.js'

/** What a thread needs about 2 ms for. */
const SLICE_BYTES = 4 * 1024 * 1024

/** Beside this one: more are not faster than memory. */
const MAX_THREADS = 3

/** Slices that are taken before they are given. */
export const AHEAD = 16

/** Where more of a slice is found, giving lines takes longer than finding them: other threads are of no use. */
const MAX_SHARE_FOUND = 0.2

export interface SearchedFile {
  path: string
  bytes: number
}

/** What threads share: the next slice that nobody has, how many were given, and whether all is over. */
export const SHARED = { next: 0, given: 1, isOver: 2 } as const
const SHARED_BYTES = 3 * Int32Array.BYTES_PER_ELEMENT

export interface ThreadData {
  /** As it stands in a message between threads. */
  filter: Filter
  slices: readonly Slice[]
  shared: Int32Array
}

export interface ThreadMessage {
  slice: number
  /** Undefined when it cannot be read: this thread tries, and says why. */
  lines: SliceLines | undefined
}

export interface ParallelOptions {
  filter: Filter
  /** For the first slice, which this thread reads. Default: what the filter says. */
  firstSelection?: Selection
  tally: ReadTally
  /** Default 4 MiB. */
  sliceBytes?: number
  /** Beside this one. Default: cores less one, at most 3. */
  threads?: number
}

/** How many threads there may be beside this one. */
export function spareThreads(): number {
  return Math.min(MAX_THREADS, availableParallelism() - 1)
}

/** The lines that match, and those that are no JSON. */
export function selectionFor(filter: Filter): Selection {
  return matchingSelection(selectionOf({ sieve: sieveOf(filter) }), filter)
}

/**
 * Lines that match, lines that are no JSON, and others where a slice is read whose lines mostly match.
 *
 * @throws {ThroughlineError} `FILES_UNREADABLE`
 */
export async function* linesInParallel(
  files: readonly SearchedFile[],
  options: ParallelOptions,
): AsyncGenerator<string> {
  const { filter, tally, sliceBytes = SLICE_BYTES, threads = spareThreads() } = options
  const slices = slicesOf(files, sliceBytes)
  const shared = new Int32Array(new SharedArrayBuffer(SHARED_BYTES))
  const others = new OtherThreads({ filter, slices, shared }, threads)
  const reader = new SliceReader()
  const select = selectionFor(filter)
  const results = new Map<number, SliceLines>()
  const read = (number: number, selection: Selection) => {
    const slice = slices[number]
    if (slice !== undefined) results.set(number, reader.lines(slice, selection))
  }
  try {
    read(Atomics.add(shared, SHARED.next, 1), options.firstSelection ?? select)
    if (shareFound(results.get(0), slices[0]) > MAX_SHARE_FOUND) await others.end()
    for (const [given, slice] of slices.entries()) {
      while (!results.has(given)) {
        const next = others.areOver ? given : Atomics.add(shared, SHARED.next, 1)
        read(next, others.areOver ? (options.firstSelection ?? select) : select)
        for (const message of await others.received(next >= slices.length)) {
          if (message.lines === undefined) read(message.slice, select)
          else results.set(message.slice, message.lines)
        }
      }
      const { texts, tooLong } = results.get(given) as SliceLines
      results.delete(given)
      tally.unreadableLines += tooLong
      tally.bytes = (tally.bytes ?? 0) + slice.end - slice.start
      yield* texts
      Atomics.store(shared, SHARED.given, given + 1)
      Atomics.notify(shared, SHARED.given)
    }
  } finally {
    reader.close()
    await others.end()
  }
}

function slicesOf(files: readonly SearchedFile[], sliceBytes: number): Slice[] {
  return files.flatMap(({ path, bytes }) =>
    Array.from({ length: Math.ceil(bytes / sliceBytes) }, (_, slice) => ({
      path,
      start: slice * sliceBytes,
      end: Math.min(bytes, (slice + 1) * sliceBytes),
    })),
  )
}

function shareFound(found: SliceLines | undefined, slice: Slice | undefined): number {
  if (found === undefined || slice === undefined) return 0
  return found.texts.reduce((sum, text) => sum + text.length, 0) / (slice.end - slice.start)
}

/** Threads beside this one, which send what they find. */
class OtherThreads {
  readonly #workers: Worker[]
  readonly #shared: Int32Array
  #messages: ThreadMessage[] = []
  #error: unknown
  #wake: (() => void) | undefined
  areOver: boolean

  constructor(data: ThreadData, threads: number) {
    this.#shared = data.shared
    // Compiled, or as it is written: what this file is.
    const program = new URL(`./search-thread${extname(import.meta.url)}`, import.meta.url)
    this.#workers = Array.from({ length: threads }, () => new Worker(program, { workerData: data }))
    this.areOver = threads === 0
    for (const worker of this.#workers) {
      worker.on('message', (message: ThreadMessage) => {
        this.#messages.push(message)
        this.#wake?.()
      })
      worker.on('error', (error) => {
        this.#error = error
        this.#wake?.()
      })
    }
  }

  /** What has come, or, if nothing else is to do, comes next. */
  async received(isNothingElseToDo: boolean): Promise<ThreadMessage[]> {
    if (this.areOver) return []
    await setImmediate()
    if (isNothingElseToDo && this.#messages.length === 0 && this.#error === undefined)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    if (this.#error !== undefined) throw this.#error
    const messages = this.#messages
    this.#messages = []
    return messages
  }

  /** What they have not sent is lost. */
  async end(): Promise<void> {
    this.areOver = true
    Atomics.store(this.#shared, SHARED.isOver, 1)
    Atomics.notify(this.#shared, SHARED.given)
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()))
  }
}
