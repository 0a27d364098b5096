/**
 * A whole command, from its start to its end. Its memory and CPU time are what the system says of a child that has ended
 * (`wait4`), as GNU time asks for it: Node has no such call, and `/proc/<pid>` is gone at the end, where the peak often is.
 * GNU time forks the command itself, so that the peak is not Node's, which a child of Node would begin with.
 */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startProcess } from '../processes.ts'

export interface Command {
  program: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
}

/** Without `time`, there is the first alone. */
export interface Measured {
  ms: number
  /** On all cores. */
  cpuMs?: number
  peakMegabytes?: number
  /** What the command itself says that it took without its start (`bare-duckdb.mjs`). */
  queryMs?: number
}

/** False for the `time` of a shell or of another system. */
export const hasGnuTime: boolean = spawnSync('time', ['-f', '%M', 'true']).status === 0

/** Its output goes to a file: grep reads no further than the first match where it is `/dev/null`. */
export function outputPath(folder: string): string {
  return join(folder, 'output')
}

/** @param folder for what the command prints @throws {Error} unless it exits 0 */
export async function measure({ program, args, env }: Command, folder: string): Promise<Measured> {
  const [usage, errors] = [join(folder, 'usage'), join(folder, 'errors')]
  const timed = hasGnuTime ? ['time', '-o', usage, '-f', '%U %S %M', program] : [program]
  const [command = '', ...before] = timed
  const files = [openSync(outputPath(folder), 'w'), openSync(errors, 'w')] as const
  const startedMs = performance.now()
  const child = startProcess(command, [...before, ...args], {
    stdio: ['ignore', ...files],
    env: { ...process.env, ...env },
  })
  const [exitCode] = await once(child, 'exit')
  const ms = performance.now() - startedMs
  for (const file of files) closeSync(file)
  const said = readFileSync(errors, 'utf8')
  if (exitCode !== 0) throw new Error(`${program} ${args.join(' ')} exited ${exitCode}\n${said}`)
  const [, queryMs] = /^query ms: (.*)$/m.exec(said) ?? []
  return { ms, ...(hasGnuTime && usageIn(usage)), ...(queryMs !== undefined && { queryMs: Number(queryMs) }) }
}

function usageIn(path: string): { cpuMs: number; peakMegabytes: number } {
  const [user = 0, system = 0, peakKilobytes = 0] = readFileSync(path, 'utf8').trim().split(' ').map(Number)
  return { cpuMs: (user + system) * 1_000, peakMegabytes: peakKilobytes / 1024 }
}
