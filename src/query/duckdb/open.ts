/** DuckDB (https://duckdb.org), where it is installed: tables of large files, and Parquet. */
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DuckDBConnection } from '@duckdb/node-api'
import { ThroughlineError } from '../../errors.js'

/** More threads read no faster from one disk, and each has a buffer of 32 MB. */
const MAX_THREADS = 4

const MEGABYTES_OF_THREAD = 48
const MEGABYTES_BESIDE = 96

export interface Duckdb {
  connection: DuckDBConnection
  close(): void
}

/**
 * In memory, bounded; what does not fit goes to a folder of its own below the system's for temporary files.
 *
 * @throws {ThroughlineError} `PACKAGE_MISSING`
 */
export async function openDuckdb(settings: Record<string, string> = {}): Promise<Duckdb> {
  const { DuckDBInstance } = await importDuckdb()
  const threads = Math.min(MAX_THREADS, availableParallelism())
  const temporary = mkdtempSync(join(tmpdir(), 'throughline-duckdb-'))
  const instance = await DuckDBInstance.create(':memory:', {
    threads: String(threads),
    memory_limit: `${MEGABYTES_BESIDE + threads * MEGABYTES_OF_THREAD}MB`,
    temp_directory: temporary,
    ...settings,
    // Nothing is fetched from the network.
    autoinstall_known_extensions: 'false',
  })
  const connection = await instance.connect()
  // What has no zone is UTC, as in JavaScript.
  await connection.run("SET TimeZone = 'UTC'")
  return {
    connection,
    close() {
      connection.closeSync()
      instance.closeSync()
      rmSync(temporary, { recursive: true, force: true })
    },
  }
}

export type DuckdbModule = typeof import('@duckdb/node-api')

/** @throws {ThroughlineError} `PACKAGE_MISSING` */
export async function importDuckdb(): Promise<DuckdbModule> {
  try {
    return await import('@duckdb/node-api')
  } catch (cause) {
    throw new ThroughlineError('PACKAGE_MISSING', 'DuckDB is not installed.', {
      why: 'Parquet files, --sql and compact need it; it is no part of throughline, for it has 70 MB.',
      fix: 'npm install @duckdb/node-api',
      cause,
    })
  }
}

/** A text as a literal, where no parameter can stand. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** Files as the list that a reading function takes. DuckDB would take some characters for a pattern. */
export function fileList(files: readonly string[]): string {
  return `[${files.map((file) => quoted(file.replace(/[*?[\]]/g, (character) => `[${character}]`))).join(', ')}]`
}
