import { LOGS_FOLDER } from '../../src/telemetry/local-directory.js'
import { RotatingFile, type RotatingFileOptions } from './rotating-file.js'

/** A destination for log lines; pino takes it as its second argument. */
export interface LogFile {
  /** Appends one line. Never throws. */
  write(line: string): void
  /** Resolves at once: a line is with the operating system when `write` returns. */
  flush(): Promise<void>
}

/**
 * Log lines to `<directory>/logs/*.ndjson`.
 *
 * @example pino(options, createLogFile(localDirectory(process.env, process.cwd())))
 */
export function createLogFile(directory: string, options: RotatingFileOptions = {}): LogFile {
  const file = new RotatingFile(directory, LOGS_FOLDER, options)
  return {
    write(line) {
      file.write(line)
    },
    async flush() {},
  }
}
