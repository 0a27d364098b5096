/**
 * A guarded run and its replay, on a real Redis: throughline, the bare commands that are its limit, and two
 * peers. Contestants take turns within a round, in an order that rotates; a ratio is taken within its round.
 */
import type { ChildProcess } from 'node:child_process'
import { createClient } from 'redis'
import { type RedisServer, startRedis } from '../../test/support/redis.ts'
import {
  type Benchmark,
  type BenchResult,
  describeMachine,
  median,
  medianOfRatios,
  round,
} from '../benchmark.ts'
import { atEnd } from '../processes.ts'
import { formatTable } from '../table.ts'
import { ask, type Samples, sampleInTurns, startWorker } from '../workers.ts'
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

export const idempotency: Benchmark = {
  summary: 'runs and replays per second on Redis: throughline, bare commands, and two peers',
  async run(options) {
    const server = await startRedis()
    if (server === undefined) throw new Error('This benchmark needs a Redis: apt-get install redis-server.')
    atEnd(() => server.stop())
    const workers = new Map<string, ChildProcess>()
    const checked = new Map<string, Checked>()
    for (const name of NAMES) {
      const worker = await startWorker(new URL('worker.ts', import.meta.url), [name, server.url])
      workers.set(name, worker)
      checked.set(name, await ask<Checked>(worker, { kind: 'check' } satisfies Task))
    }
    const { rounds, seconds, connections } = options
    const samples = await sampleInTurns<Timed>({
      workers,
      rounds,
      tasks: Object.fromEntries(
        KINDS.map((kind) => [OPERATIONS[kind], { kind, seconds, connections } satisfies Task]),
      ),
      before: await flusherOf(server),
      describe: ({ operationsPerSecond }) => `${Math.round(operationsPerSecond)}/s`,
    })
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

/** Empties the server between turns: all meet the same one. Not a server that was lent by `REDIS_URL`. */
async function flusherOf({ url, restart }: RedisServer): Promise<() => Promise<unknown>> {
  if (restart === undefined) return async () => {}
  const client = await createClient({ url }).connect()
  atEnd(() => client.destroy())
  return () => client.flushAll()
}

function rowsOf(samples: Samples<Timed>, checked: Map<string, Checked>): BenchResult['rows'] {
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

function ratiosOf(samples: Samples<Timed>): Record<string, number> {
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

function valuesOf(
  samples: Samples<Timed>,
  contestant: string,
  kind: Operation,
  measure: keyof Timed,
): number[] {
  return (samples[OPERATIONS[kind]]?.[contestant] ?? []).map((timed) => timed[measure])
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
