/** Where log lines are read from: files, folders of them, compressed ones, and standard input. */
import { createReadStream, type Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import * as zlib from 'node:zlib'
import { ThroughlineError } from '../errors.js'
import {
  type ByteSource,
  linesOf,
  needlesOf,
  openFile,
  type ReadOptions,
  unreadable,
} from './ndjson-files.js'

/** What a folder is looked through for. */
const LOG_FILE = /\.(?:ndjson|jsonl|log|json)(?:\.\d+)?(?:\.(?:gz|zst))?$|\.(?:ndjson|jsonl|log)\.\d+$/i

/** By name, in which `.10.` comes after `.9.`: pino-roll and others number their files. */
const byName = new Intl.Collator('en', { numeric: true }).compare

/** The name of standard input. */
export const STDIN = '-'

/**
 * Lines of the sources, one source after the other, in bounded memory.
 *
 * @param paths files, folders (with all that is in them), or `-`
 * @throws {ThroughlineError} `FILES_UNREADABLE`
 */
export async function* readSources(
  paths: readonly string[],
  options: ReadOptions = {},
): AsyncGenerator<string> {
  const needles = needlesOf(options.containing)
  const tally = options.tally ?? { files: 0, unreadableLines: 0 }
  for (const path of paths) {
    for (const file of await filesAt(path)) {
      const opened = await openSource(file)
      if (opened === undefined) continue
      tally.files += 1
      try {
        yield* linesOf(opened.bytes, needles, tally)
      } catch (error) {
        throw unreadable(file, error)
      } finally {
        await opened.close()
      }
    }
  }
}

/** The files that a path names: itself, or those in the folder, by name. */
async function filesAt(path: string): Promise<string[]> {
  if (path === STDIN) return [path]
  try {
    if (!(await stat(path)).isDirectory()) return [path]
    const entries = await readdir(path, { withFileTypes: true, recursive: true })
    return entries
      .filter((entry) => entry.isFile() && LOG_FILE.test(entry.name))
      .map((entry) => join(parentOf(entry), entry.name))
      .sort(byName)
  } catch (error) {
    throw unreadable(path, error)
  }
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

async function openSource(path: string): Promise<OpenSource | undefined> {
  if (path === STDIN) return { bytes: bytesOf(process.stdin), close: async () => {} }
  if (/\.gz$/i.test(path)) return streamed(path, zlib.createGunzip())
  if (/\.zst$/i.test(path)) return streamed(path, unzstd(path))
  const file = await openFile(path)
  return file === undefined ? undefined : { bytes: file, close: () => file.close() }
}

function streamed(path: string, unpacked: NodeJS.ReadWriteStream & { destroy(): void }): OpenSource {
  const packed = createReadStream(path)
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
        if (done === true) return { bytesRead: 0 }
        left = value
      }
      const bytesRead = left.copy(buffer, offset, 0, length)
      left = left.subarray(bytesRead)
      return { bytesRead }
    },
  }
}
