import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LOGS_FOLDER, TRACES_FOLDER } from '../../src/telemetry/local-directory.js'

/**
 * Creates `folder` inside `directory`, and lets the directory ignore itself in git.
 *
 * A directory that holds anything else than our two folders is somebody's (`THROUGHLINE_DIR=.`): a
 * `.gitignore` with `*` would hide their work, so none is written there.
 *
 * @throws what the file system throws.
 */
export function prepareFolder(directory: string, folder: string): void {
  mkdirSync(folder, { recursive: true })
  const isOurs = readdirSync(directory).every((name) => name === TRACES_FOLDER || name === LOGS_FOLDER)
  if (isOurs) writeFileSync(join(directory, '.gitignore'), '*\n')
}
