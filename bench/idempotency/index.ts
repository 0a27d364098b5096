/**
 * A guarded run and its replay, on a real Redis: throughline, the bare commands that are its limit, and two
 * peers. Contestants take turns within a round, in an order that rotates; a ratio is taken within its round.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createClient } from 'redis'
import { type RedisServer, startRedis } from '../../test/support/redis.ts'
import {
  type Benchmark,
  type BenchOptions,
  type BenchResult,
  describeMachine,
  median,
  medianOfRatios,
  progress,
  rotated,
  round,
} from '../benchmark.ts'
import { atEnd } from '../processes.ts'
import { formatTable } from '../table.ts'
import { CONTESTANTS } from './contestants.ts'
import type { Checked, Task, Timed } from './worker.ts'

const NAMES = Object.keys(CONTESTANTS)

const OPERATIONS = { first: 'claim + complete', replay: 'replay' } as const
type Operation = keyof typeof OPERATIONS
const KINDS = Object.keys(OPERATIONS) as Operation[]

/** `<ours>/<rival>`, for each operation and measure. */
const PAIRS = [
  ['throughline', 'raw'],
  ['throughline', 'raw-lua'],
  ['throughline-store', 'raw'],
  ['throughline-store', 'raw-lua'],
  ['throughline on ioredis', 'raw on ioredis'],
  ['throughline', '@node-idempotency/core'],
  ['throughline', '@aws-lambda-powertools/idempotency'],
] as const

const MEASURES = {
  'operations per second': 'operationsPerSecond',
  'client CPU per operation': 'clientCpuMicroseconds',
} as const

/** Samples by contestant and operation, in the order of rounds. */
type Samples = Record<string, Record<Operation, Timed[]>>

export const idempotency: Benchmark = {
  summary: 'runs and replays per second on Redis: throughline, bare commands, and two peers',
  async run(options) {
    const server = await startRedis()
    if (server === undefined) throw new Error('This benchmark needs a Redis: apt-get install redis-server.')
    atEnd(() => server.stop())
    const workers = new Map<string, ChildProcess>()
    const checked = new Map<string, Checked>()
    for (const name of NAMES) {
      const worker = await startWorker(name, server.url)
      workers.set(name, worker)
      checked.set(name, await ask<Checked>(worker, { kind: 'check' }))
    }
    const samples = await sampleInTurns(workers, await flusherOf(server), options)
    const result: BenchResult = {
      bench: 'idempotency',
      machine: describeMachine(),
      options: { ...options },
      rows: rowsOf(samples, checked),
      ratios: ratiosOf(samples),
    }
    return { result, table: tableOf(result) }
  },
}

async function startWorker(name: string, url: string): Promise<ChildProcess> {
  const worker = fork(fileURLToPath(new URL('worker.ts', import.meta.url)), [name, url])
  atEnd(() => worker.kill())
  await answerOf(worker)
  return worker
}

function ask<Answer>(worker: ChildProcess, task: Task): Promise<Answer> {
  worker.send(task)
  return answerOf(worker) as Promise<Answer>
}

async function answerOf(worker: ChildProcess): Promise<unknown> {
  const ended = new AbortController()
  const end = () => ended.abort(new Error(`A worker ended: ${worker.spawnargs.slice(2).join(' ')}.`))
  worker.once('exit', end)
  try {
    const [answer] = await once(worker, 'message', { signal: ended.signal })
    return answer
  } finally {
    worker.off('exit', end)
  }
}

/** Empties the server between turns: all meet the same one. Not a server that was lent by `REDIS_URL`. */
async function flusherOf({ url, restart }: RedisServer): Promise<() => Promise<unknown>> {
  if (restart === undefined) return async () => {}
  const client = await createClient({ url }).connect()
  atEnd(() => client.destroy())
  return () => client.flushAll()
}

async function sampleInTurns(
  workers: Map<string, ChildProcess>,
  flush: () => Promise<unknown>,
  { rounds, seconds, connections }: BenchOptions,
): Promise<Samples> {
  const samples: Samples = {}
  // The first round warms up.
  for (let round = 0; round <= rounds; round += 1) {
    const title = round === 0 ? 'warming up' : `round ${round}/${rounds}`
    for (const kind of KINDS) {
      for (const [name, worker] of rotated([...workers], round)) {
        await flush()
        const timed = await ask<Timed>(worker, { kind, seconds, connections })
        progress(`${title} ${OPERATIONS[kind]}, ${name}: ${Math.round(timed.operationsPerSecond)}/s`)
        samples[name] ??= { first: [], replay: [] }
        if (round > 0) samples[name][kind].push(timed)
      }
    }
  }
  return samples
}

function rowsOf(samples: Samples, checked: Map<string, Checked>): BenchResult['rows'] {
  return KINDS.flatMap((kind) =>
    NAMES.map((contestant) => {
      const medianOf = (measure: keyof Timed) =>
        round(median(valuesOf(samples, contestant, kind, measure)), 2)
      return {
        operation: OPERATIONS[kind],
        contestant,
        operationsPerSecond: Math.round(medianOf('operationsPerSecond')),
        p50Ms: medianOf('p50Ms'),
        p99Ms: medianOf('p99Ms'),
        clientCpuMicroseconds: medianOf('clientCpuMicroseconds'),
        serverCpuMicroseconds: medianOf('serverCpuMicroseconds'),
        roundTrips: checked.get(contestant)?.[kind],
      }
    }),
  )
}

function ratiosOf(samples: Samples): Record<string, number> {
  const ratios: Record<string, number> = {}
  for (const kind of KINDS) {
    for (const [title, measure] of Object.entries(MEASURES)) {
      for (const [ours, rival] of PAIRS) {
        ratios[`${OPERATIONS[kind]}: ${ours}/${rival} (${title})`] = round(
          medianOfRatios(valuesOf(samples, ours, kind, measure), valuesOf(samples, rival, kind, measure)),
          3,
        )
      }
    }
  }
  return ratios
}

function valuesOf(samples: Samples, contestant: string, kind: Operation, measure: keyof Timed): number[] {
  return (samples[contestant]?.[kind] ?? []).map((timed) => timed[measure])
}

function tableOf({ machine, options, rows, ratios }: BenchResult): string {
  const figures = formatTable(
    ['', 'per second', 'p50 ms', 'p99 ms', 'client CPU µs', 'server CPU µs', 'round trips'],
    rows.map(({ operation, contestant, ...measured }) => [
      `${operation}, ${contestant}`,
      ...Object.values(measured).map(String),
    ]),
  )
  const columns = KINDS.flatMap((kind) =>
    Object.keys(MEASURES).map((title) => ({ operation: OPERATIONS[kind], title })),
  )
  const ratioTable = formatTable(
    ['ratio', ...columns.map(({ operation, title }) => `${operation}, ${title}`)],
    PAIRS.map(([ours, rival]) => [
      `${ours}/${rival}`,
      ...columns.map(({ operation, title }) => String(ratios[`${operation}: ${ours}/${rival} (${title})`])),
    ]),
  )
  const conditions = `${options.rounds} rounds of ${options.seconds} s, ${options.connections} in flight`
  return `${conditions}\n${Object.values(machine).join(', ')}\n\n${figures}\n\n${ratioTable}`
}
