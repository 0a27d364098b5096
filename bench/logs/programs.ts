/** The programs that are compared: how each is called, and whether it is here. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from './measure.ts'

const CLI = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const BARE_DUCKDB = fileURLToPath(new URL('bare-duckdb.mjs', import.meta.url))

export function throughline(...args: string[]): Command {
  return node(CLI, ...args)
}

/** @param sql its first column is printed */
export function duckdb(sql: string): Command {
  return node(BARE_DUCKDB, sql)
}

export function node(...args: string[]): Command {
  return { program: process.execPath, args }
}

export function jq(path: string, program: string, ...options: string[]): Command {
  return { program: 'jq', args: ['-c', ...options, program, path] }
}

/** @param home of `lnavHome` @param condition in SQL, on the fields that `PINO_FORMAT` names */
export function lnav(home: string, path: string, condition: string): Command {
  const sql = `;SELECT log_raw_text FROM pino WHERE ${condition}`
  return { program: 'lnav', args: ['-n', '-c', sql, '-c', ':write-raw-to -', path], env: { HOME: home } }
}

/** It reads NDJSON only by a format, and has none for pino. */
const PINO_FORMAT = {
  pino: {
    title: 'pino',
    json: true,
    'timestamp-field': 'time',
    'timestamp-divisor': 1000,
    'level-field': 'level',
    level: { trace: 10, debug: 20, info: 30, warning: 40, error: 50, fatal: 60 },
    'body-field': 'msg',
    'line-format': [{ field: '__timestamp__' }, ' ', { field: 'msg' }],
    value: {
      level: { kind: 'integer' },
      correlation_id: { kind: 'string' },
      action: { kind: 'string' },
      status: { kind: 'integer' },
      duration_ms: { kind: 'float' },
    },
  },
}

/** A home folder in which lnav finds its format. */
export function makeLnavHome(folder: string): string {
  const formats = join(folder, '.lnav', 'formats', 'bench')
  mkdirSync(formats, { recursive: true })
  writeFileSync(join(formats, 'pino.json'), JSON.stringify(PINO_FORMAT))
  return folder
}

/** Of the programs that need not be installed, those that are, and their versions. */
export function installedVersions(): Record<string, string> {
  const versions: Record<string, string> = {}
  for (const program of ['grep', 'jq', 'lnav']) {
    const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' })
    const version = /\d+(?:\.\d+)+/.exec(stdout ?? '')?.[0]
    if (version !== undefined) versions[program] = version
  }
  return versions
}
