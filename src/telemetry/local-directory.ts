import { resolve } from 'node:path'

/** Where spans and log lines go when no collector is configured, below the directory the app runs in. */
const DEFAULT_DIRECTORY = '.throughline'

/** Folder of the span files, below the local directory. */
export const TRACES_FOLDER = 'traces'

/** Folder of the log files, below the local directory. */
export const LOGS_FOLDER = 'logs'

/** How the name of a span or log file ends. */
export const FILE_ENDING = '.ndjson'

/**
 * The directory that the app writes to and the commands read: `THROUGHLINE_DIR`, else `.throughline` in the
 * working directory. Always absolute.
 */
export function localDirectory(
  env: Record<string, string | undefined> = process.env,
  cwd: string = process.cwd(),
): string {
  // Without the mark, Next's file tracing would take the directory for an asset of a standalone build.
  return resolve(/* turbopackIgnore: true */ cwd, env.THROUGHLINE_DIR || DEFAULT_DIRECTORY)
}
