/** Where lines are read from: files, folders of them, patterns, packed files, Parquet, and standard input. */
import { createReadStream, type Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import * as zlib from 'node:zlib'
import { ThroughlineError } from '../../errors.js'
import { supersededFiles } from '../compact/journal.js'
import { selectionOf } from './line-selection.js'
import {
  type ByteSource,
  bytesOfFile,
  isMissing,
  linesOf,
  openFile,
  type ReadOptions,
  type ReadTally,
  unreadable,
} from './ndjson-files.js'

/** What a folder is looked through for. */
const LOG_FILE =
  /\.(?:ndjson|jsonl|log|json)(?:\.\d+)?(?:\.(?:gz|zst))?$|\.(?:ndjson|jsonl|log)\.\d+$|\.parquet$/i

/** More than that is searched by several threads: starting one takes as long as reading half of it. */
const MANY_BYTES = 64 * 1024 * 1024

/** The name of standard input. */
export const STDIN = '-'

/**
 * Lines of the sources, one source after the other, in bounded memory.
 *
 * @param paths files, folders (with all that is in them), patterns, or `-`
 * @throws {ThroughlineError} `FILES_UNREADABLE`, and `PACKAGE_MISSING` for Parquet without DuckDB
 */
export async function* readSources(
  paths: readonly string[],
  options: ReadOptions = {},
): AsyncGenerator<string> {
  const tally = options.tally ?? { files: 0, unreadableLines: 0 }
  for (const files of runsOfOneKind(await filesAtAll(paths))) {
    const [first = ''] = files
    if (isParquet(first)) yield* linesOfParquet(files, options, tally)
    else if (isPlainFile(first)) yield* linesOfPlainFiles(files, options, tally)
    else for (const file of files) yield* linesOfFile(file, options, tally)
  }
}

/** Those that follow one another are asked together. */
function runsOfOneKind(files: readonly string[]): string[][] {
  const runs: string[][] = []
  let last: unknown
  for (const file of files) {
    const kind = isParquet(file) ? 'parquet' : isPlainFile(file)
    if (kind === last) runs.at(-1)?.push(file)
    else runs.push([file])
    last = kind
  }
  return runs
}

/** Those of a folder; one that does not exist is empty. @throws {ThroughlineError} as `readSources` */
export async function* readFolder(folder: string, options: ReadOptions = {}): AsyncGenerator<string> {
  if ((await sizeOf(folder)) !== undefined) yield* readSources([folder], options)
}

/** One whose bytes are its lines. */
export function isPlainFile(file: string): boolean {
  return file !== STDIN && !/\.(?:gz|zst|parquet)$/i.test(file)
}

export function isParquet(file: string): boolean {
  return /\.parquet$/i.test(file)
}

async function* linesOfPlainFiles(
  files: readonly string[],
  options: ReadOptions,
  tally: ReadTally,
): AsyncGenerator<string> {
  const { filter, containing } = options
  // An ID is looked for as quickly as one thread reads.
  if (filter === undefined || containing !== undefined || (await bytesOfFiles(files)) < MANY_BYTES) {
    for (const file of files) yield* linesOfFile(file, options, tally)
    return
  }
  const { linesInParallel } = await import('./parallel-lines.js')
  const searched = []
  for (const path of files) searched.push({ path, bytes: (await sizeOf(path)) ?? 0 })
  tally.files += files.length
  yield* linesInParallel(searched, {
    filter,
    firstSelection: selectionOf(options),
    tally,
  })
}

async function* linesOfFile(file: string, options: ReadOptions, tally: ReadTally): AsyncGenerator<string> {
  const opened = await openSource(file, tally)
  if (opened === undefined) return
  tally.files += 1
  try {
    yield* linesOf(opened.bytes, options, tally)
  } catch (error) {
    throw unreadable(file, error)
  } finally {
    await opened.close()
  }
}

async function* linesOfParquet(
  files: readonly string[],
  { filter, containing }: ReadOptions,
  tally: ReadTally,
): AsyncGenerator<string> {
  if (files.length === 0) return
  const { parquetLines } = await import('../duckdb/parquet-lines.js')
  tally.files += files.length
  yield* parquetLines(files, { filter, containing })
}

/** The files that the paths name, one after the other. */
export async function filesAtAll(paths: readonly string[]): Promise<string[]> {
  const files = []
  for (const path of paths) files.push(...(await filesAt(path)))
  return files
}

/** What they have on the disk. A file that is gone has nothing. */
export async function bytesOfFiles(files: readonly string[]): Promise<number> {
  let bytes = 0
  for (const file of files) bytes += (await sizeOf(file)) ?? 0
  return bytes
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size
  } catch (error) {
    if (isMissing(error)) return undefined
    throw unreadable(file, error)
  }
}

/** The files that a path names, by name: itself, those in the folder, or what the pattern fits. */
export async function filesAt(path: string): Promise<string[]> {
  if (path === STDIN) return [path]
  try {
    const found = await stat(path)
    return found.isDirectory() ? await filesIn(path) : [path]
  } catch (error) {
    if (!isMissing(error)) throw unreadable(path, error)
    const { glob, isDynamicPattern } = await import('tinyglobby')
    const fitting = isDynamicPattern(path) ? await glob(path, { absolute: path.startsWith('/') }) : []
    if (fitting.length > 0) return readOnce(fitting)
    throw unreadable(path, error)
  }
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true })
  return readOnce(
    entries.filter((entry) => LOG_FILE.test(entry.name)).map((entry) => join(parentOf(entry), entry.name)),
  )
}

/** By name, in which `.10.` comes after `.9.`, and without those that a Parquet file beside them stands for. */
function readOnce(files: readonly string[]): string[] {
  const superseded = new Map<string, ReadonlySet<string>>()
  const isSuperseded = (file: string) => {
    const folder = dirname(file)
    if (!superseded.has(folder)) superseded.set(folder, supersededFiles(folder))
    return superseded.get(folder)?.has(file) === true
  }
  const { compare } = new Intl.Collator('en', { numeric: true })
  return files.filter((file) => !isSuperseded(file)).sort(compare)
}

// Node 20 has it as `path`, later ones as `parentPath`.
function parentOf(entry: Dirent): string {
  const { parentPath, path } = entry as Dirent & { path?: string }
  return parentPath ?? path ?? ''
}

interface OpenSource {
  bytes: ByteSource
  close(): Promise<unknown>
}

async function openSource(path: string, tally: ReadTally): Promise<OpenSource | undefined> {
  if (path === STDIN) return { bytes: bytesOf(process.stdin), close: async () => {} }
  if (/\.gz$/i.test(path)) return streamed(path, zlib.createGunzip(), tally)
  if (/\.zst$/i.test(path)) return streamed(path, unzstd(path), tally)
  const file = await openFile(path)
  if (file === undefined) return undefined
  return { bytes: bytesOfFile(file, tally), close: () => file.close() }
}

function streamed(
  path: string,
  unpacked: NodeJS.ReadWriteStream & { destroy(): void },
  tally: ReadTally,
): OpenSource {
  const packed = createReadStream(path)
  packed.on('data', (chunk) => {
    tally.bytes = (tally.bytes ?? 0) + chunk.length
  })
  packed.on('error', (error) => unpacked.emit('error', error))
  packed.pipe(unpacked)
  return {
    bytes: bytesOf(unpacked as unknown as Readable),
    async close() {
      packed.destroy()
      unpacked.destroy()
    },
  }
}

function unzstd(path: string): NodeJS.ReadWriteStream & { destroy(): void } {
  const { createZstdDecompress } = zlib as { createZstdDecompress?: () => zlib.Gunzip }
  if (createZstdDecompress !== undefined) return createZstdDecompress()
  throw new ThroughlineError('FILES_UNREADABLE', `${path} cannot be read.`, {
    why: `It is packed with zstd, which Node reads from 22.15 on; this is ${process.versions.node}.`,
    fix: `Use a later Node, or unpack it: zstd -dc ${path} | throughline logs … -`,
  })
}

/** A stream, read as a file is. */
function bytesOf(stream: Readable): ByteSource {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  let left: Buffer = Buffer.alloc(0)
  return {
    async read(buffer, offset, length) {
      while (left.length === 0) {
        const { value, done } = await chunks.next()
        if (done === true) return 0
        left = value
      }
      const bytesRead = left.copy(buffer, offset, 0, length)
      left = left.subarray(bytesRead)
      return bytesRead
    },
  }
}
