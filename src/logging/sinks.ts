/**
 * Where log lines go. The logger writes to one list of sinks per process, because a logger is often made
 * at module level, before `register()` knows whether lines also go to local files.
 */
import { processWide } from '../context/index.js'
import { StandardOutput } from './standard-output.js'

/** Takes one serialised line, with its newline. */
export interface LogSink {
  write(line: string): void
}

/** A sink of this process's loggers. It must not throw: logging never fails a request. */
export interface SharedSink extends LogSink {
  /** Resolves when the lines written so far are with the operating system. */
  flush?(): Promise<void>
}

const stdout = processWide('logging.stdout', () => new StandardOutput())

const sinks = processWide<SharedSink[]>('logging.sinks', () => [stdout])

/** Adds a sink for every logger of this process. */
export function addLogSink(sink: SharedSink): void {
  sinks.push(sink)
}

/** Resolves when the lines written so far are with the operating system. */
export async function flushLogSinks(): Promise<void> {
  await Promise.all(sinks.map((sink) => sink.flush?.()))
}

/** The destination all loggers share. pino calls `flush` for `logger.flush()`, and `flushSync` after `fatal`. */
export const sharedDestination = {
  write(line: string): void {
    for (const sink of sinks) sink.write(line)
  },
  flush(done: (error?: Error) => void): void {
    void flushLogSinks().then(() => done(), done)
  },
  flushSync(): void {
    stdout.flushSync()
  },
}
