/**
 * Messages that commit with an order, sent and handled: throughline, and bare pg-boss in three ways. Contestants take
 * turns within a round, in an order that rotates; a ratio is taken within its round.
 */
import type { ChildProcess } from 'node:child_process'
import pg from 'pg'
import { startPostgres } from '../../test/support/postgres.ts'
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
import { type Samples, sampleInTurns, startWorker } from '../workers.ts'
import { CONTESTANTS } from './contestants.ts'
import type { Task, Timed } from './worker.ts'

const NAMES = Object.keys(CONTESTANTS)

const KINDS = {
  send: 'order and send',
  handle: 'handle',
  write: 'handle, writing a row',
  latency: 'wait of one message',
} as const
type Kind = keyof typeof KINDS

/** `<ours>/<rival>` */
const PAIRS = ['throughline', 'throughline not traced'].flatMap((ours) =>
  NAMES.filter((name) => name.startsWith('pg-boss')).map((rival) => [ours, rival] as const),
)

const MESSAGES_PER_SECOND = 500
const LATENCY_MESSAGES = 10

export const outbox: Benchmark = {
  summary: 'messages per second, and how long one waits: throughline, and bare pg-boss',
  async run(options) {
    const server = await startPostgres()
    if (server === undefined) throw new Error('This benchmark needs a Postgres: apt-get install postgresql.')
    atEnd(() => server.stop())
    await makeTables(server.url)
    const { rounds, seconds, connections } = options
    const workers = new Map<string, ChildProcess>()
    for (const name of NAMES) {
      const args = [name, server.url, String(connections)]
      workers.set(name, await startWorker(new URL('worker.ts', import.meta.url), args))
    }
    const messages = seconds * MESSAGES_PER_SECOND
    const samples = await sampleInTurns<Timed>({
      ...{ workers, rounds },
      tasks: {
        [KINDS.send]: { kind: 'send', seconds } satisfies Task,
        [KINDS.handle]: { kind: 'handle', messages } satisfies Task,
        [KINDS.write]: { kind: 'write', messages } satisfies Task,
        [KINDS.latency]: { kind: 'latency', messages: LATENCY_MESSAGES } satisfies Task,
      },
      describe: ({ perSecond, latencyMs }) =>
        perSecond === undefined ? `${latencyMs?.toFixed(0)} ms` : `${perSecond.toFixed(0)}/s`,
    })
    const result: BenchResult = {
      bench: 'outbox',
      machine: describeMachine(),
      options: { ...options, messages },
      rows: rowsOf(samples),
      ratios: ratiosOf(samples),
    }
    return { result, table: tableOf(result) }
  },
}

async function makeTables(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  // The tests' server logs each statement.
  await client.query("ALTER ROLE CURRENT_USER SET log_statement = 'none'")
  await client.query('CREATE TABLE orders (id bigint PRIMARY KEY)')
  await client.query('CREATE TABLE effects (order_id bigint)')
  await client.end()
}

function rowsOf(samples: Samples<Timed>): BenchResult['rows'] {
  return kinds().flatMap((kind) =>
    NAMES.map((contestant) => {
      const medianOf = (measure: keyof Timed, digits: number) => {
        const value = median(valuesOf(samples, contestant, kind, measure))
        return Number.isNaN(value) ? undefined : round(value, digits)
      }
      return {
        task: KINDS[kind],
        contestant,
        perSecond: medianOf('perSecond', 0),
        latencyMs: medianOf('latencyMs', 1),
        cpuMicroseconds: medianOf('cpuMicroseconds', 0),
        roundTrips: medianOf('roundTrips', 2),
      }
    }),
  )
}

function ratiosOf(samples: Samples<Timed>): Record<string, number> {
  const ratios: Record<string, number> = {}
  for (const kind of kinds()) {
    const measure = kind === 'latency' ? 'latencyMs' : 'perSecond'
    for (const [ours, rival] of PAIRS) {
      ratios[`${KINDS[kind]}: ${ours}/${rival}`] = round(
        medianOfRatios(valuesOf(samples, ours, kind, measure), valuesOf(samples, rival, kind, measure)),
        3,
      )
    }
  }
  return ratios
}

function kinds(): Kind[] {
  return Object.keys(KINDS) as Kind[]
}

function valuesOf(samples: Samples<Timed>, contestant: string, kind: Kind, measure: keyof Timed): number[] {
  return (samples[KINDS[kind]]?.[contestant] ?? []).map((timed) => timed[measure] ?? Number.NaN)
}

function tableOf({ machine, options, rows, ratios }: BenchResult): string {
  const figures = formatTable(
    ['', 'per second', 'wait ms', 'CPU µs', 'round trips'],
    rows.map(({ task, contestant, ...measured }) => [
      `${task}, ${contestant}`,
      ...Object.values(measured).map((value) => String(value ?? '')),
    ]),
  )
  const ratioTable = formatTable(
    ['ratio', ...Object.values(KINDS)],
    PAIRS.map(([ours, rival]) => [
      `${ours}/${rival}`,
      ...Object.values(KINDS).map((title) => String(ratios[`${title}: ${ours}/${rival}`])),
    ]),
  )
  const conditions = `${options.rounds} rounds, ${options.messages} messages each, ${options.connections} at once`
  return `${conditions}\n${Object.values(machine).join(', ')}\n\n${figures}\n\n${ratioTable}`
}
