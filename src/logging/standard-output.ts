/**
 * Standard output for log lines: in batches, off the main thread, in bounded memory.
 *
 * pino's own destination (SonicBoom 4.2) does not do here. It keeps every line while nobody reads; it goes on
 * trying where a pipe is broken; and its `flushSync`, which runs at exit and after each `fatal`, repeats a write
 * that fails for ever, so that a process with a broken pipe or a full disk would never end.
 */
import { write, writeSync } from 'node:fs'
import { epochMs } from '../context/index.js'
import { LOG_FIELD } from '../telemetry/names.js'

/** A write of its own for every line costs the process more than the line (150 µs of CPU in bench/). */
const BATCH_LENGTH = 4096

/** Longest time a line waits for others, in milliseconds. */
const BATCH_MS = 50

/** Most that is written at once. */
const CHUNK_LENGTH = 64 * 1024

/** Most that waits for a reader, in characters; later lines are dropped. */
const MAX_WAITING_LENGTH = 16 * 1024 * 1024

/** Until `flushSync` tries a pipe again that is full, in milliseconds. */
const RETRY_MS = 50

/** Time for a write under way to end, in milliseconds. */
const THREAD_MS = 10

/** How long `flushSync` waits for somebody to read, in milliseconds. */
const MAX_STALL_MS = 1000

/** Errors after which nothing is ever read again. */
const BROKEN = new Set(['EPIPE', 'ECONNRESET', 'EBADF'])

/** Bytes that are to be written, and the length of the lines that they are. */
interface Writing {
  bytes: Uint8Array
  length: number
}

/**
 * Takes lines, and never throws. A line is with the operating system at the latest 50 ms later where somebody
 * reads, and when `flush` resolves, `flushSync` returns or the process exits, also by an exception; a SIGKILL
 * loses what waits. Lines that cannot be written are dropped and counted, which is said once on standard error,
 * and in a line of its own when lines are written again.
 */
export class StandardOutput {
  /** Lines that wait, joined: each chunk is one write. */
  readonly #chunks: string[] = []
  /** What a pipe that is full has not taken yet. */
  #rest: Writing | undefined
  /** Characters taken, and those of them that are written or dropped. */
  #takenLength = 0
  #settledLength = 0
  #waiters: { untilLength: number; resolve: () => void }[] = []
  #writingSinceMs: number | undefined
  #isBroken = false
  /** The last line written has no end: the disk was full in its middle. */
  #isTorn = false
  #isReported = false
  #droppedLines = 0

  constructor() {
    setInterval(() => this.#writeNext(), BATCH_MS).unref()
    process.on('exit', () => this.flushSync())
  }

  /** Takes one line, with its newline. */
  write(line: string): void {
    if (this.#isBroken) return
    if (this.#waitingLength + line.length > MAX_WAITING_LENGTH) {
      this.#drop(1, 'nobody reads it')
      return
    }
    this.#take(line)
    if (this.#waitingLength >= BATCH_LENGTH) this.#writeNext()
  }

  /** Resolves when the lines taken so far are with the operating system, or dropped. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiters.push({ untilLength: this.#takenLength, resolve })
      this.#resolveWaiters()
      this.#writeNext()
    })
  }

  /**
   * Writes what waits before it returns, unless nobody reads. What is being written is a thread's, whose end
   * cannot be awaited here: it is given a moment, so that lines rarely change places and none is cut by another.
   */
  flushSync(): void {
    if (this.#writingSinceMs !== undefined) {
      // A second write would block this thread, too.
      if (performance.now() - this.#writingSinceMs > MAX_STALL_MS) return
      sleep(THREAD_MS)
    }
    for (let next = this.#next(); next !== undefined; next = this.#next()) this.#writeSync(next)
  }

  get #waitingLength(): number {
    return this.#takenLength - this.#settledLength
  }

  #take(line: string): void {
    this.#takenLength += line.length
    const last = this.#chunks.length - 1
    const open = this.#chunks[last]
    if (open !== undefined && open.length + line.length <= CHUNK_LENGTH) this.#chunks[last] = open + line
    else this.#chunks.push(line)
  }

  #next(): Writing | undefined {
    const rest = this.#rest
    this.#rest = undefined
    if (rest !== undefined) return rest
    const chunk = this.#chunks.shift()
    if (chunk === undefined) return undefined
    return { bytes: Buffer.from(this.#isTorn ? `\n${chunk}` : chunk), length: chunk.length }
  }

  #writeNext(): void {
    if (this.#writingSinceMs !== undefined) return
    const next = this.#next()
    if (next === undefined) return
    this.#writingSinceMs = performance.now()
    this.#write(next)
  }

  #write({ bytes, length }: Writing): void {
    write(1, bytes, (error, writtenBytes) => {
      if (error === null) {
        const rest = this.#restOf(bytes, writtenBytes)
        if (rest.length > 0) return this.#write({ bytes: rest, length })
        this.#tellOfDropped()
      } else if (error.code === 'EAGAIN') {
        this.#rest = { bytes, length }
        this.#writingSinceMs = undefined
        return
      } else {
        this.#fail(error, bytes)
      }
      this.#writingSinceMs = undefined
      this.#settle(length)
      if (this.#waiters.length > 0 || this.#waitingLength >= BATCH_LENGTH) this.#writeNext()
    })
  }

  #writeSync({ bytes, length }: Writing): void {
    let rest = bytes
    let progressMs = performance.now()
    while (rest.length > 0) {
      try {
        rest = this.#restOf(rest, writeSync(1, rest))
        progressMs = performance.now()
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code !== 'EAGAIN' || performance.now() - progressMs > MAX_STALL_MS) {
          this.#fail(error as NodeJS.ErrnoException, rest)
          break
        }
        sleep(RETRY_MS)
      }
    }
    this.#settle(length)
  }

  #restOf(bytes: Uint8Array, writtenBytes: number): Uint8Array {
    if (writtenBytes > 0) this.#isTorn = bytes[writtenBytes - 1] !== LINE_END
    return bytes.subarray(writtenBytes)
  }

  #settle(length: number): void {
    this.#settledLength += length
    this.#resolveWaiters()
  }

  #resolveWaiters(): void {
    this.#waiters = this.#waiters.filter(({ untilLength, resolve }) => {
      if (untilLength > this.#settledLength) return true
      resolve()
      return false
    })
  }

  #fail(error: NodeJS.ErrnoException, bytes: Uint8Array): void {
    this.#drop(linesIn(bytes), error.code ?? error.message)
    if (!BROKEN.has(error.code ?? '')) return
    this.#isBroken = true
    for (const chunk of this.#chunks.splice(0)) this.#settledLength += chunk.length
  }

  #drop(lines: number, why: string): void {
    this.#droppedLines += lines
    if (this.#isReported) return
    this.#isReported = true
    process.emitWarning(
      `Throughline cannot write log lines to standard output (${why}), so they are dropped; the app runs on. ` +
        'Read what it writes, free disk space, or set THROUGHLINE_DIR to have lines in files.',
      'ThroughlineWarning',
    )
  }

  // Once half of what waited is gone: while it is nearly full, more are dropped.
  #tellOfDropped(): void {
    if (this.#droppedLines === 0 || this.#waitingLength > MAX_WAITING_LENGTH / 2) return
    const line = {
      level: 40,
      time: epochMs(),
      [LOG_FIELD.droppedLines]: this.#droppedLines,
      msg: 'throughline: log lines before this one were dropped, because standard output did not take them',
    }
    this.#droppedLines = 0
    this.#take(`${JSON.stringify(line)}\n`)
  }
}

const LINE_END = 0x0a

function linesIn(bytes: Uint8Array): number {
  return bytes.reduce((lines, byte) => (byte === LINE_END ? lines + 1 : lines), 0)
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
