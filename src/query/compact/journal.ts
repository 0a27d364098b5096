/**
 * What makes compacting safe to interrupt: a journal beside the files names a Parquet file, the lines that it could not
 * take (the rest), and the files that both stand for. At any time one side is read:
 *
 *   journal written    the Parquet file is not there: the sources are read, and not the rest
 *   Parquet renamed    it is there: it and the rest are read, and not the sources
 *   sources removed    the journal goes last
 *
 * What is found interrupted is ended, or undone, by the next run.
 */
import * as fs from 'node:fs'
import { basename, join } from 'node:path'
import { asObject, objectsOf } from '../files/loose-json.js'

const JOURNAL = 'compact.journal'

const BLOCK_BYTES = 256 * 1024

/** Names, in the folder of the journal. */
export interface Replacement {
  parquet: string
  /** Undefined when the Parquet file has every line. */
  rest: string | undefined
  sources: readonly { name: string; bytes: number }[]
}

/** Files of a folder that are not to be read: what they have stands elsewhere, too. */
export function supersededFiles(folder: string): ReadonlySet<string> {
  const replacement = readJournal(folder)
  if (replacement === undefined) return new Set()
  const { parquet, rest, sources } = replacement
  const names = fs.existsSync(join(folder, parquet)) ? sources.map(({ name }) => name) : rest ? [rest] : []
  return new Set(names.map((name) => join(folder, name)))
}

/**
 * Puts finished copies in the place of the files that they stand for.
 *
 * @param copies where the Parquet file and the rest were written, in the same folder
 */
export function replaceSources(
  folder: string,
  copies: { parquet: string; rest: string },
  replacement: Replacement,
): void {
  const path = join(folder, JOURNAL)
  fs.writeFileSync(`${path}.new`, JSON.stringify(replacement))
  for (const file of [copies.parquet, `${path}.new`]) sync(file)
  fs.renameSync(`${path}.new`, path)
  sync(folder)
  if (replacement.rest !== undefined) {
    sync(copies.rest)
    fs.renameSync(copies.rest, join(folder, replacement.rest))
    sync(folder)
  }
  fs.renameSync(copies.parquet, join(folder, replacement.parquet))
  sync(folder)
  endReplacement(folder)
}

/** Ends what the journal of a folder says, or undoes it when there is no copy. */
export function endReplacement(folder: string): void {
  const replacement = readJournal(folder)
  if (replacement !== undefined) {
    const { parquet, rest, sources } = replacement
    if (fs.existsSync(join(folder, parquet)))
      for (const source of sources) removeSource(folder, source, rest ?? restName(parquet))
    else if (rest !== undefined) fs.rmSync(join(folder, rest), { force: true })
  }
  for (const name of [`${JOURNAL}.new`, JOURNAL]) fs.rmSync(join(folder, name), { force: true })
}

/** Of the file for lines that a Parquet file could not take. */
export function restName(parquet: string): string {
  return parquet.replace(/\.parquet$/, '.rest.ndjson')
}

/** A file that was written to since it was copied leaves those lines to the rest. */
function removeSource(folder: string, { name, bytes }: { name: string; bytes: number }, rest: string): void {
  // Our own writers look for their file by its name before each line: from here on they begin another.
  const removed = join(folder, `${name}.removed`)
  if (fs.existsSync(join(folder, name))) fs.renameSync(join(folder, name), removed)
  else if (!fs.existsSync(removed)) return
  if (fs.statSync(removed).size > bytes) {
    appendFrom(removed, bytes, join(folder, rest))
    sync(join(folder, rest))
  }
  fs.rmSync(removed)
}

/** By blocks: it may be more than Node reads at once, which is 2 GB. */
function appendFrom(source: string, offset: number, target: string): void {
  const descriptor = fs.openSync(source, 'r')
  const block = Buffer.allocUnsafe(BLOCK_BYTES)
  for (let at = offset; ; ) {
    const bytesRead = fs.readSync(descriptor, block, 0, block.length, at)
    if (bytesRead === 0) break
    fs.appendFileSync(target, block.subarray(0, bytesRead))
    at += bytesRead
  }
  fs.closeSync(descriptor)
}

/** Undefined where there is none. It is renamed into its place, so it is never half written. */
function readJournal(folder: string): Replacement | undefined {
  try {
    const journal = asObject(JSON.parse(fs.readFileSync(join(folder, JOURNAL), 'utf8')))
    const { parquet, rest, sources } = journal ?? {}
    if (typeof parquet !== 'string') return undefined
    // Names alone: nothing outside the folder is ever touched.
    return {
      parquet: basename(parquet),
      rest: typeof rest === 'string' ? basename(rest) : undefined,
      sources: objectsOf(sources).map(({ name, bytes }) => ({
        name: basename(String(name)),
        bytes: Number(bytes),
      })),
    }
  } catch {
    return undefined
  }
}

// The name of a file is on the disk when its folder is.
function sync(path: string): void {
  const descriptor = fs.openSync(path, 'r')
  fs.fsyncSync(descriptor)
  fs.closeSync(descriptor)
}
