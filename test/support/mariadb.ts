/** A real MariaDB: `MYSQL_URL`, else `mariadbd` (or `mysqld`) of Debian. Its general log tells what arrived. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import mysql from 'mysql2/promise'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'
import { requireOrSkip } from './required.ts'

export interface MariadbServer {
  url: string
  /** The general log, or undefined for a server that was already there. */
  log(): string | undefined
  stop(): Promise<void>
}

/** A server with a database `shop`, or undefined when there is none: the reason has been printed, skip then. */
export async function startMariadb(): Promise<MariadbServer | undefined> {
  if (process.env.MYSQL_URL) {
    return { url: process.env.MYSQL_URL, log: () => undefined, stop: async () => {} }
  }
  const server = find('mariadbd')
  const install = find('mariadb-install-db')
  if (server === undefined || install === undefined) {
    requireOrSkip('mariadb', 'apt-get install mariadb-server')
    return undefined
  }
  return startServer(server, install)
}

function find(program: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/bin']
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path))
}

async function startServer(server: string, install: string): Promise<MariadbServer> {
  const directory = mkdtempSync(join(tmpdir(), 'throughline-mariadb-'))
  const data = join(directory, 'data')
  const log = join(directory, 'general.log')
  const asRoot = process.getuid?.() === 0 ? ['--user=root'] : []
  execFileSync(
    install,
    ['--no-defaults', `--datadir=${data}`, '--auth-root-authentication-method=normal', ...asRoot],
    {
      stdio: 'ignore',
    },
  )
  const port = await freePort()
  const flags = [
    '--no-defaults',
    `--datadir=${data}`,
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    `--socket=${join(directory, 'mariadb.sock')}`,
    `--pid-file=${join(directory, 'mariadb.pid')}`,
    '--general-log=1',
    `--general-log-file=${log}`,
    '--skip-name-resolve',
    '--innodb-flush-log-at-trx-commit=0',
    ...asRoot,
  ]
  const child = spawn(server, flags, { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const root = `mysql://root@127.0.0.1:${port}`
  await eventually(async () => {
    const connection = await mysql.createConnection(root)
    await connection.query('CREATE DATABASE IF NOT EXISTS shop')
    await connection.end()
  }, 30_000)
  return {
    url: `${root}/shop`,
    log: () => readFileSync(log, 'utf8'),
    async stop() {
      child.kill('SIGTERM')
      await closed
      process.off('exit', kill)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
