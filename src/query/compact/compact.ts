/**
 * Log files that are no longer written to, into Parquet: a tenth of the size, and an ID is found in some milliseconds.
 * No line is lost: what the copy cannot take stays as text, and a file goes when its copy was read back.
 */
import * as fs from 'node:fs'
import { basename, extname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { ThroughlineError } from '../../errors.js'
import { newestTimeMs } from '../duckdb/parquet-lines.js'
import { writeParquet } from '../duckdb/write-parquet.js'
import { unreadable } from '../files/ndjson-files.js'
import { filesAt, isParquet } from '../files/sources.js'
import { endReplacement, replaceSources, restName } from './journal.js'
import type { StageData, Staged, StageMessage } from './stage-lines.js'

export interface CompactOptions {
  /** A file that was not written to for so long is closed, in milliseconds. Default 10 minutes. */
  closedAfterMs?: number
  /** Compacted files whose last line is older go, in milliseconds. Default: none goes. */
  keepMs?: number
  /** Only tells what would be done. */
  isDryRun?: boolean
  /** The present, in epoch milliseconds. Default: the system's clock. */
  nowMs?: number
  /** Told of each line that was read: bytes so far, and of all files. */
  onProgress?: (bytes: number, ofBytes: number) => void
}

export interface CompactedFiles {
  /** Into one Parquet file. */
  sources: string[]
  parquet: string
  lines: number
  /** Lines that stay as text: they are no JSON, or DuckDB cannot read them. */
  restLines: number
  bytesBefore: number
  bytesAfter: number
}

export interface CompactSummary {
  compacted: CompactedFiles[]
  /** Files that are left as they are, and why. */
  skipped: { file: string; why: string }[]
  /** Compacted files that were older than is kept. */
  removed: string[]
}

/** Files are open while they are merged, each with a block in memory; and DuckDB keeps what a file ends with until its end. */
const MAX_FILES_TOGETHER = 64
const MAX_BYTES_TOGETHER = 1024 ** 3

const PACKED = /\.(?:gz|zst)$/i
const REST = /\.rest\.ndjson$/

/**
 * @param folder those in it, not in folders within
 * @throws {ThroughlineError} `PACKAGE_MISSING`, `FILES_UNREADABLE`, `COMPACT_RUNNING`
 */
export async function compact(folder: string, options: CompactOptions = {}): Promise<CompactSummary> {
  const { closedAfterMs = 600_000, keepMs, isDryRun = false, nowMs = Date.now() } = options
  const unlock = isDryRun ? () => {} : lock(folder)
  try {
    if (!isDryRun) tidy(folder)
    const summary: CompactSummary = { compacted: [], skipped: [], removed: [] }
    const closed: Source[] = []
    for (const file of await filesAt(folder)) {
      const { mtimeMs, size } = fs.statSync(file)
      if (isParquet(file) || REST.test(file) || join(folder, basename(file)) !== file) continue
      const isOpen = mtimeMs > nowMs - closedAfterMs
      const why = PACKED.test(file)
        ? 'it is packed'
        : isOpen
          ? 'it may still be written to'
          : await flawOf(file)
      if (why === undefined) closed.push({ file, bytes: size })
      else summary.skipped.push({ file, why })
    }
    const ofBytes = closed.reduce((sum, { bytes }) => sum + bytes, 0)
    let bytes = 0
    for (const sources of together(closed)) {
      const onBytes = (read: number) => options.onProgress?.(bytes + read, ofBytes)
      const planned = plannedOf(folder, sources)
      if (isDryRun || (await compactFiles(folder, sources, planned, onBytes))) summary.compacted.push(planned)
      else summary.skipped.push(...sources.map(({ file }) => ({ file, why: 'it has no line of JSON' })))
      bytes += sources.reduce((sum, source) => sum + source.bytes, 0)
    }
    if (keepMs !== undefined) summary.removed = await removeOlder(folder, nowMs - keepMs, isDryRun)
    return summary
  } finally {
    unlock()
  }
}

interface Source {
  file: string
  bytes: number
}

/** Fills in what was planned; false when no line can be compacted. */
async function compactFiles(
  folder: string,
  sources: readonly Source[],
  planned: CompactedFiles,
  onBytes: (read: number) => void,
): Promise<boolean> {
  const copies = { parquet: `${planned.parquet}.new`, rest: `${planned.parquet}.new-rest` }
  const staged = `${planned.parquet}.staged`
  try {
    const { lines, restLines } = await stage(sources, staged, copies.rest, onBytes)
    if (lines.count === 0) return false
    await writeParquet(staged, copies.parquet, lines)
    const parquet = basename(planned.parquet)
    const rest = restLines === 0 ? undefined : restName(parquet)
    const bytesAfter = sizeOf(copies.parquet) + sizeOf(copies.rest)
    Object.assign(planned, { lines: lines.count, restLines, bytesAfter })
    replaceSources(folder, copies, {
      parquet,
      rest,
      sources: sources.map(({ file, bytes }) => ({ name: basename(file), bytes })),
    })
    return true
  } finally {
    for (const file of [staged, copies.parquet, copies.rest]) fs.rmSync(file, { force: true })
  }
}

/** Ends, or undoes, what was interrupted. */
function tidy(folder: string): void {
  endReplacement(folder)
  for (const name of fs.readdirSync(folder))
    if (/\.parquet\.(?:staged|new|new-rest)$/.test(name)) fs.rmSync(join(folder, name))
}

/** Before anything is done. */
function plannedOf(folder: string, sources: readonly Source[]): CompactedFiles {
  const first = basename(sources[0]?.file ?? '')
  return {
    sources: sources.map(({ file }) => file),
    parquet: join(folder, `${first.replace(/\.(?:ndjson|jsonl|log|json)$/i, '')}.parquet`),
    lines: 0,
    restLines: 0,
    bytesBefore: sources.reduce((sum, { bytes }) => sum + bytes, 0),
    bytesAfter: 0,
  }
}

/**
 * In a thread of its own, whose memory is given back at its end: lines are made and let go faster than they are collected,
 * and DuckDB needs that room next.
 */
async function stage(
  sources: readonly Source[],
  staged: string,
  rest: string,
  onBytes: (read: number) => void,
): Promise<Staged> {
  const data: StageData = { sources: sources.map(({ file }) => file), staged, rest }
  const program = new URL(`./stage-thread${extname(import.meta.url)}`, import.meta.url)
  const thread = new Worker(program, { workerData: data, resourceLimits: { maxYoungGenerationSizeMb: 16 } })
  const result = await new Promise<Staged>((resolve, reject) => {
    thread.on('message', (message: StageMessage) =>
      'readBytes' in message ? onBytes(message.readBytes) : resolve(message),
    )
    thread.on('error', reject)
    thread.on('exit', () => reject(new Error('The thread that merges lines ended early.')))
  })
  await thread.terminate()
  // A line that is too long to be read is in none of the two.
  if (result.unreadLines > 0) throw tooLongError(sources)
  return result
}

function tooLongError(sources: readonly Source[]): ThroughlineError {
  return new ThroughlineError('FILES_UNREADABLE', 'A line is too long to be compacted.', {
    why: `It has more than 32 MB, in one of: ${sources.map(({ file }) => file).join(', ')}. Nothing was changed.`,
    fix: 'Move the file to another folder.',
  })
}

/** Runs of files that are compacted into one. */
function together(sources: readonly Source[]): Source[][] {
  const runs: Source[][] = []
  let bytes = 0
  for (const source of sources) {
    const run = runs.at(-1)
    if (run === undefined || run.length >= MAX_FILES_TOGETHER || bytes + source.bytes > MAX_BYTES_TOGETHER) {
      runs.push([source])
      bytes = 0
    } else run.push(source)
    bytes += source.bytes
  }
  return runs
}

/** Why a file cannot be compacted: other bytes than UTF-8 would be read as something else. */
async function flawOf(file: string): Promise<string | undefined> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  try {
    for await (const chunk of fs.createReadStream(file)) decoder.decode(chunk as Buffer, { stream: true })
    decoder.decode()
    return undefined
  } catch (error) {
    if (error instanceof TypeError) return 'it has bytes that are no UTF-8'
    throw unreadable(file, error)
  }
}

async function removeOlder(folder: string, beforeMs: number, isDryRun: boolean): Promise<string[]> {
  const removed: string[] = []
  for (const file of await filesAt(folder)) {
    const timeMs = isParquet(file)
      ? await newestTimeMs(file)
      : REST.test(file)
        ? fs.statSync(file).mtimeMs
        : undefined
    if (timeMs === undefined || timeMs >= beforeMs) continue
    if (!isDryRun) fs.rmSync(file)
    removed.push(file)
  }
  return removed
}

function sizeOf(path: string): number {
  return fs.statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

const LOCK = 'compact.lock'

/** One at a time in a folder. @throws {ThroughlineError} `COMPACT_RUNNING` */
function lock(folder: string): () => void {
  const path = join(folder, LOCK)
  for (;;) {
    try {
      fs.writeFileSync(path, String(process.pid), { flag: 'wx' })
      return () => fs.rmSync(path, { force: true })
    } catch (cause) {
      if ((cause as { code?: unknown }).code !== 'EEXIST') throw unreadable(folder, cause)
      const pid = Number(fs.readFileSync(path, 'utf8'))
      if (isRunning(pid))
        throw new ThroughlineError('COMPACT_RUNNING', `${folder} is being compacted by process ${pid}.`, {
          why: 'Two at a time would copy the same lines twice.',
          fix: `Wait for it. If process ${pid} is another program, remove ${path}.`,
        })
      // Left by one that was killed.
      fs.rmSync(path, { force: true })
    }
  }
}

function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM'
  }
}
