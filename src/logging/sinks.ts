/**
 * Where log lines go. The logger writes to one list of sinks per process, because a logger is often made
 * at module level, before `register()` knows whether lines also go to local files.
 */
import pino from 'pino'
import { processWide } from '../context/index.js'

/** Takes one serialised line, with its newline. Must not throw: logging never fails a request. */
export interface LogSink {
  write(line: string): void
}

/** A write of its own for every line costs the process more than the line (150 µs of CPU in bench/). */
const BATCH_BYTES = 4096

/** Longest time a line waits for others, in milliseconds. */
const BATCH_MS = 50

/** What waits here is written at exit and by `flushStandardOutput`; a SIGKILL loses it. */
const stdout = processWide('logging.stdout', () => {
  const stream = pino.destination({
    dest: 1,
    sync: false,
    minLength: BATCH_BYTES,
    periodicFlush: BATCH_MS,
  })
  // A broken pipe is an event here, not an exception in a request.
  stream.on('error', () => {})
  return stream
})

/** Writes what waits. Called at shutdown: Node ends on a signal without the `exit` event. */
export function flushStandardOutput(): void {
  try {
    stdout.flushSync()
  } catch {
    // The pipe is broken, or was never opened.
  }
}

const sinks = processWide<LogSink[]>('logging.sinks', () => [stdout])

/** Adds a sink for every logger of this process. */
export function addLogSink(sink: LogSink): void {
  sinks.push(sink)
}

/** The destination all loggers share. */
export const sharedDestination: LogSink = {
  write(line) {
    for (const sink of sinks) sink.write(line)
  },
}
