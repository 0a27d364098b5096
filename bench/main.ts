/** `npm run bench -- <name>`: runs one benchmark; a table for people, or one JSON object with `--json`. */
import { parseArgs } from 'node:util'
import type { Benchmark, BenchOptions } from './benchmark.ts'
import { clients } from './clients/index.ts'
import { idempotency } from './idempotency/index.ts'
import { logs } from './logs/index.ts'
import { outbox } from './outbox/index.ts'
import { endAll } from './processes.ts'
import { requestOverhead } from './request-overhead/index.ts'

const BENCHMARKS: Record<string, Benchmark> = {
  'request-overhead': requestOverhead,
  idempotency,
  clients,
  outbox,
  logs,
}

const DEFAULTS: BenchOptions = { rounds: 3, seconds: 6, connections: 8, lines: 1_000_000, files: 1 }

const USAGE = `Usage: npm run bench -- <name> [options]

Benchmarks:
${Object.entries(BENCHMARKS)
  .map(([name, { summary }]) => `  ${name}  ${summary}`)
  .join('\n')}

  --rounds <number>       rounds, each with every set-up in another order (default ${DEFAULTS.rounds})
  --seconds <number>      length of one timed run (default ${DEFAULTS.seconds})
  --connections <number>  requests in flight (default ${DEFAULTS.connections})
  --lines <number>        of a log file (default ${DEFAULTS.lines})
  --files <number>        log files that are compacted and asked together (default ${DEFAULTS.files})
  --json                  one JSON object as the last line of standard output, instead of the table
  --help                  this text

Example: npm run bench -- request-overhead --rounds 5 --json`

class UsageError extends Error {}

async function main(): Promise<number> {
  const { values, positionals } = readArguments()
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  const [name = '', ...others] = positionals
  const benchmark = Object.hasOwn(BENCHMARKS, name) ? BENCHMARKS[name] : undefined
  if (benchmark === undefined || others.length > 0) {
    const names = Object.keys(BENCHMARKS).join(', ')
    throw new UsageError(
      name === ''
        ? `Name a benchmark: ${names}.`
        : `No benchmark "${positionals.join(' ')}". There is: ${names}.`,
    )
  }
  const options: BenchOptions = {
    rounds: positiveInteger('rounds', values.rounds),
    seconds: positiveInteger('seconds', values.seconds),
    connections: positiveInteger('connections', values.connections),
    lines: positiveInteger('lines', values.lines),
    files: positiveInteger('files', values.files),
  }
  const { result, table } = await benchmark.run(options)
  console.log(values.json ? JSON.stringify(result) : `\n${table}`)
  return 0
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        rounds: { type: 'string' },
        seconds: { type: 'string' },
        connections: { type: 'string' },
        lines: { type: 'string' },
        files: { type: 'string' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function positiveInteger(name: keyof BenchOptions, value: string | undefined): number {
  if (value === undefined) return DEFAULTS[name]
  if (!/^[1-9]\d*$/.test(value))
    throw new UsageError(`--${name} must be a whole number above 0, received "${value}".`)
  return Number(value)
}

for (const [signal, exitCode] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(signal, () => void endAll().finally(() => process.exit(exitCode)))
}

try {
  process.exitCode = await main()
} catch (error) {
  const isUsage = error instanceof UsageError
  console.error(isUsage ? `${error.message}\nSee: npm run bench -- --help` : error)
  process.exitCode = isUsage ? 2 : 1
} finally {
  await endAll()
}
