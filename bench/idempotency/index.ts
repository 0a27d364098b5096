/**
 * A guarded run and its replay, on a real Redis: throughline, the bare commands that are its limit, and two
 * peers. Contestants take turns within a round, in an order that rotates; a ratio is taken within its round.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { startRedis } from '../../test/support/redis.ts'
import {
  type Benchmark,
  type BenchOptions,
  type BenchResult,
  describeMachine,
  median,
  medianOfRatios,
  progress,
} from '../benchmark.ts'
import { atEnd } from '../processes.ts'
import { formatTable } from '../table.ts'
import { CONTESTANTS } from './contestants.ts'
import type { Task, Timed } from './worker.ts'

const NAMES = Object.keys(CONTESTANTS)

const KINDS = { first: 'claim + complete', replay: 'replay' } as const
type Kind = keyof typeof KINDS

/** `<ours>/<rival>`. */
const PAIRS = [
  ['throughline', 'raw'],
  ['throughline on ioredis', 'raw on ioredis'],
  ['throughline', '@node-idempotency/core'],
  ['throughline', '@aws-lambda-powertools/idempotency'],
] as const

type Samples = Record<string, Record<Kind, Timed[]>>

export const idempotency: Benchmark = {
  summary: 'runs and replays per second on Redis: throughline, bare commands, and two peers',
  async run(options) {
    const server = await startRedis()
    if (server === undefined) throw new Error('This benchmark needs a Redis: apt-get install redis-server.')
    atEnd(() => server.stop())
    const workers = new Map<string, ChildProcess>()
    const commands = new Map<string, Timed['commands']>()
    for (const name of NAMES) {
      const worker = await startWorker(name, server.url)
      workers.set(name, worker)
      commands.set(name, (await ask(worker, { kind: 'check', seconds: 0, connections: 1 })).commands)
    }
    const samples = await sampleInTurns(workers, options)
    const result: BenchResult = {
      bench: 'idempotency',
      machine: describeMachine(),
      options: { ...options },
      rows: rowsOf(samples, commands),
      ratios: ratiosOf(samples),
    }
    return { result, table: tableOf(result) }
  },
}

async function startWorker(name: string, url: string): Promise<ChildProcess> {
  const worker = fork(fileURLToPath(new URL('worker.ts', import.meta.url)), [name, url])
  atEnd(() => worker.kill())
  await once(worker, 'message')
  return worker
}

async function ask(worker: ChildProcess, task: Task): Promise<Timed> {
  worker.send(task)
  const died = once(worker, 'exit').then(() => {
    throw new Error('A worker ended.')
  })
  const [timed] = await Promise.race([once(worker, 'message'), died])
  return timed
}

async function sampleInTurns(
  workers: Map<string, ChildProcess>,
  { rounds, seconds, connections }: BenchOptions,
): Promise<Samples> {
  const samples: Samples = {}
  for (const name of NAMES) samples[name] = { first: [], replay: [] }
  for (let round = 0; round <= rounds; round += 1) {
    for (const kind of Object.keys(KINDS) as Kind[]) {
      const start = round % NAMES.length
      for (const name of [...NAMES.slice(start), ...NAMES.slice(0, start)]) {
        const worker = workers.get(name)
        if (worker === undefined) continue
        const timed = await ask(worker, { kind, seconds, connections })
        // The first round warms up.
        if (round > 0) samples[name]?.[kind].push(timed)
        const title = round === 0 ? 'warming up' : `round ${round}/${rounds}`
        progress(`${title} ${KINDS[kind]}, ${name}: ${Math.round(timed.operationsPerSecond)}/s`)
      }
    }
  }
  return samples
}

function rowsOf(samples: Samples, commands: Map<string, Timed['commands']>): BenchResult['rows'] {
  return (Object.keys(KINDS) as Kind[]).flatMap((kind) =>
    NAMES.map((contestant) => {
      const medianOf = (measure: 'operationsPerSecond' | 'p50Ms' | 'p99Ms' | 'cpuMicroseconds') =>
        Number(median((samples[contestant]?.[kind] ?? []).map((timed) => timed[measure])).toFixed(2))
      return {
        operation: KINDS[kind],
        contestant,
        operationsPerSecond: Math.round(medianOf('operationsPerSecond')),
        p50Ms: medianOf('p50Ms'),
        p99Ms: medianOf('p99Ms'),
        cpuMicrosecondsPerOperation: medianOf('cpuMicroseconds'),
        commandsPerOperation: commands.get(contestant)?.[kind],
      }
    }),
  )
}

function ratiosOf(samples: Samples): Record<string, number> {
  const ratios: Record<string, number> = {}
  for (const kind of Object.keys(KINDS) as Kind[]) {
    for (const [ours, rival] of PAIRS) {
      const rates = (name: string) => (samples[name]?.[kind] ?? []).map((timed) => timed.operationsPerSecond)
      ratios[`${KINDS[kind]}: ${ours}/${rival}`] = Number(
        medianOfRatios(rates(ours), rates(rival)).toFixed(3),
      )
    }
  }
  return ratios
}

function tableOf({ machine, options, rows, ratios }: BenchResult): string {
  const figures = formatTable(
    ['', 'per second', 'p50 ms', 'p99 ms', 'CPU µs each', 'commands'],
    rows.map(({ operation, contestant, ...measured }) => [
      `${operation}, ${contestant}`,
      ...Object.values(measured).map(String),
    ]),
  )
  const ratioTable = formatTable(
    ['ratio', 'of the rates'],
    Object.entries(ratios).map(([name, ratio]) => [name, String(ratio)]),
  )
  const conditions = `${options.rounds} rounds of ${options.seconds} s, ${options.connections} in flight`
  return `${conditions}\n${Object.values(machine).join(', ')}\n\n${figures}\n\n${ratioTable}`
}
