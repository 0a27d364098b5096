/** Runs a command to its end, and says what it printed when it failed. */
import { spawn } from 'node:child_process'

export interface CommandResult {
  exitCode: number | null
  stdout: string
  stderr: string
}

/** Runs to the end; the caller looks at the exit code. */
export function runCommand(
  command: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk) => {
      stdout += chunk
    })
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    child.on('error', reject)
    child.on('close', (exitCode) => resolve({ exitCode, stdout, stderr }))
  })
}

/** Runs to the end and throws with the output unless it exits 0. */
export async function mustRun(...call: Parameters<typeof runCommand>): Promise<CommandResult> {
  const result = await runCommand(...call)
  if (result.exitCode !== 0) {
    throw new Error(
      `${call[0]} ${call[1].join(' ')} exited ${result.exitCode}\n${result.stdout}\n${result.stderr}`,
    )
  }
  return result
}
