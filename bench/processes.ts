/** Everything a benchmark starts, and its end: also after a failure and on Ctrl-C. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'

const started = new AsyncDisposableStack()

/** Registers what undoes a step. Steps are undone in reverse. */
export function atEnd(undo: () => unknown): void {
  if (!started.disposed) started.defer(async () => void (await undo()))
}

/** Undoes every step. Calls after the first do nothing. */
export function endAll(): Promise<void> {
  return started.disposeAsync()
}

/** Starts a process that is ended, by its own id, with the benchmark. */
export function startProcess(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  if (started.disposed) throw new Error('The benchmark is ending.')
  const child = spawn(command, args, options)
  atEnd(() => endProcess(child))
  return child
}

/** Runs a process to its end and returns what it printed. @throws {Error} unless it exits 0. */
export async function run(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const child = startProcess(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr?.on('data', (chunk) => {
    stderr += chunk
  })
  const [exitCode] = await once(child, 'close')
  if (exitCode !== 0) throw new Error(`${command} ${args.join(' ')} exited ${exitCode}\n${stdout}\n${stderr}`)
  return stdout
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const impatience = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(impatience)
}
