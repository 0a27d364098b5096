/**
 * A real ClickHouse: `CLICKHOUSE_URL` (`clickhouse://user:password@host:8123/database`), else the embedded one of the
 * Python package chdb, behind a bridge that speaks HTTP as the server does.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { requireOrSkip } from './required.ts'

export interface ClickhouseServer {
  /** `clickhouse://user:password@host:port/database` */
  url: string
  /** Runs a statement; what it gives, as text. */
  run(statement: string): Promise<string>
  stop(): Promise<void>
}

const BRIDGE = fileURLToPath(new URL('clickhouse-bridge.py', import.meta.url))

const INSTALL =
  'python3 -m venv /tmp/chdb && /tmp/chdb/bin/pip install --no-deps chdb-core, and set CHDB_PYTHON=/tmp/chdb/bin/python'

/** A server, or undefined when there is none: the reason has been printed, skip then. */
export async function startClickhouse(): Promise<ClickhouseServer | undefined> {
  if (process.env.CLICKHOUSE_URL) return serverAt(process.env.CLICKHOUSE_URL, async () => {})
  const python = process.env.CHDB_PYTHON ?? 'python3'
  if (spawnSync(python, ['-c', 'import chdb'], { stdio: 'ignore' }).status !== 0) {
    requireOrSkip('clickhouse', INSTALL)
    return undefined
  }
  const bridge = spawn(python, [BRIDGE, 'throughline', 'p@ss:wörd'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const exited = once(bridge, 'exit')
  const [port] = await Promise.race([
    once(createInterface({ input: bridge.stdout }), 'line'),
    exited.then(() => Promise.reject(new Error('The bridge to chdb did not start.'))),
  ])
  const login = `throughline:${encodeURIComponent('p@ss:wörd')}`
  return serverAt(`clickhouse://${login}@127.0.0.1:${port}/default`, async () => {
    bridge.stdin.end()
    await exited
  })
}

function serverAt(url: string, stop: () => Promise<void>): ClickhouseServer {
  const { username, password, host, pathname } = new URL(url)
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return {
    url,
    stop,
    async run(statement) {
      const query = new URLSearchParams({ database: decodeURIComponent(pathname.slice(1)) || 'default' })
      const response = await fetch(`http://${host}/?${query}`, {
        method: 'POST',
        body: statement,
        headers: { authorization: `Basic ${Buffer.from(login).toString('base64')}` },
      })
      const text = await response.text()
      if (!response.ok) throw new Error(text)
      return text
    },
  }
}
