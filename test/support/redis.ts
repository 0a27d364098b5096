/** A real Redis for tests: `REDIS_URL`, else `redis-server` (or `valkey-server`) from the PATH. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { freePort } from './free-port.ts'
import { requireOrSkip } from './required.ts'

export interface RedisServer {
  url: string
  stop(): Promise<void>
  /** Stops it, and starts it on the same port: empty, unless it is durable. Absent for a server that is not ours. */
  restart?(): Promise<void>
}

/** A server, or undefined when there is none: the reason has been printed, skip then. */
export async function startRedis({
  isClusterNode = false,
  isDurable = false,
}: {
  /** Start a node of a cluster, which `REDIS_URL` does not stand for. */
  isClusterNode?: boolean
  /** Write every command to disk before it is answered. */
  isDurable?: boolean
} = {}): Promise<RedisServer | undefined> {
  if (process.env.REDIS_URL && !isClusterNode && !isDurable)
    return { url: process.env.REDIS_URL, stop: async () => {} }
  const binary = findOnPath('redis-server') ?? findOnPath('valkey-server')
  if (binary === undefined) {
    requireOrSkip('redis', 'apt-get install redis-server')
    return undefined
  }
  const directory = mkdtempSync(join(tmpdir(), 'throughline-redis-'))
  const port = await freePort()
  let server = await launch(binary, port, directory, { isClusterNode, isDurable })
  return {
    url: `redis://127.0.0.1:${port}`,
    async stop() {
      await end(server)
      rmSync(directory, { recursive: true, force: true })
    },
    async restart() {
      await end(server)
      server = await launch(binary, port, directory, { isClusterNode, isDurable })
    },
  }
}

async function launch(
  binary: string,
  port: number,
  directory: string,
  { isClusterNode, isDurable }: { isClusterNode: boolean; isDurable: boolean },
): Promise<ChildProcess> {
  const args = [
    '--port',
    `${port}`,
    '--bind',
    '127.0.0.1',
    '--dir',
    directory,
    '--save',
    '',
    '--appendonly',
    isDurable ? 'yes' : 'no',
    '--appendfsync',
    'always',
    ...(isClusterNode ? ['--cluster-enabled', 'yes', '--cluster-port', String(await freePort())] : []),
  ]
  const server = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const kill = () => server.kill('SIGKILL')
  process.once('exit', kill)
  server.once('exit', () => process.off('exit', kill))
  const lines: string[] = []
  for await (const line of createInterface({ input: server.stdout })) {
    lines.push(line)
    if (!/ready to accept connections/i.test(line)) continue
    server.stdout.resume()
    return server
  }
  throw new Error(`${binary} did not start on port ${port}:\n${lines.join('\n')}`)
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  const ended = once(server, 'exit')
  server.kill('SIGTERM')
  await ended
}

function findOnPath(name: string): string | undefined {
  const candidates = (process.env.PATH ?? '').split(delimiter).map((directory) => join(directory, name))
  return candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
