#!/usr/bin/env node
/** The `throughline` command. */
import { readFileSync } from 'node:fs'
import * as module from 'node:module'
import { Command, CommanderError } from 'commander'
import { isThroughlineError } from '../errors.js'
import { printable } from './terminal/printable.js'

/** Exit status: 0 found or done, 1 nothing found or failed, 2 usage. */
const FAILED = 1
const USAGE = 2

// A reader that has seen enough (`| head -1`) closes the pipe: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

/** Each is loaded when it is asked for: a look-up takes less time than loading the others would. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  trace: async () => (await import('./traces/trace.js')).traceCommand(),
  traces: async () => (await import('./traces/traces.js')).tracesCommand(),
  logs: async () => (await import('./logs/command.js')).logsCommand(),
  keys: async () => (await import('./keys/keys.js')).keysCommand(),
  compact: async () => (await import('./logs/compact.js')).compactCommand(),
  outbox: async () => (await import('./outbox/outbox.js')).outboxCommand(),
  worker: async () => (await import('./outbox/worker.js')).workerCommand(),
}

// What was compiled once is kept, where Node can (22.8 on).
module.enableCompileCache?.()

const program = new Command('throughline')
  .description('One ID per request: read its spans and log lines back, and work its outbox off.')
  .version(packageVersion(), '-V, --version')
  .helpCommand(false)
const [asked = ''] = process.argv.slice(2)
const loaded = Object.hasOwn(COMMANDS, asked) ? [COMMANDS[asked]] : Object.values(COMMANDS)
for (const load of loaded) if (load !== undefined) program.addCommand(await load())
// Subcommands added this way do not inherit it.
for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands }) => commands)])
  command.exitOverride().showHelpAfterError(seeHelp(command))

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = error instanceof CommanderError ? usageStatus(error) : FAILED
  if (!(error instanceof CommanderError)) process.stderr.write(`throughline: ${failureText(error)}\n`)
}

// commander's own status for a wrong argument is 1; for --help and --version it is 0.
function usageStatus(error: CommanderError): number {
  return error.exitCode === 0 ? 0 : USAGE
}

// A bug of ours is told with its stack; a known failure says itself how to mend it, and one of the system or of the
// database has a code, which says more than a stack.
function failureText(error: unknown): string {
  if (isThroughlineError(error)) return printable(error.message)
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown }
  if (typeof code === 'string' && !code.startsWith('ERR_'))
    return printable([message, `(${code})`].filter(Boolean).join(' '))
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return text.split('\n').map(printable).join('\n')
}

function seeHelp(command: Command): string {
  const names = []
  for (let named: Command | null = command; named !== null; named = named.parent) names.unshift(named.name())
  return `See: ${names.join(' ')} --help`
}

// This file is `dist/src/cli/main.js` in the package.
function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
  return String(version)
}
