/** The processes of the demo: started, waited for, and ended with it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'

const children = new Set<ChildProcess>()

/** Starts a process whose output is kept, not shown. */
export function start(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
) {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output = (output + chunk).slice(-20_000)
    })
  }
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (exitCode) => {
      children.delete(child)
      resolve(exitCode)
    })
  })
  return { child, ended, output: () => output }
}

/** Ends every process that still runs, and waits for it. */
export async function endAll(): Promise<void> {
  const ends = [...children].map((child) => {
    const closed = new Promise((resolve) => child.once('close', resolve))
    child.kill('SIGTERM')
    return closed
  })
  await Promise.all(ends)
}

/** A loopback port that nothing listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

/** Absolute path of a program, or undefined. */
export function findOnPath(name: string): string | undefined {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .map((directory) => join(directory, name))
    .find((candidate) => {
      try {
        accessSync(candidate, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

/** Tries until it succeeds or the process it waits for ends. */
export async function waitFor(
  what: string,
  attempt: () => Promise<void>,
  output: () => string,
): Promise<void> {
  const deadline = performance.now() + 60_000
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      if (performance.now() > deadline)
        throw new Error(`${what} did not answer within 60 s.\n${output()}`, { cause: error })
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}
