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

const sinks = processWide<LogSink[]>('logging.sinks', () => [standardOutput()])

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

// Asynchronous: a line costs the request no system call. sonic-boom writes what is left when the process
// exits; a broken pipe is an error event on the stream, not an exception in a request.
function standardOutput(): LogSink {
  const stream = pino.destination({ dest: 1, sync: false, minLength: 0 })
  stream.on('error', () => {})
  return stream
}
