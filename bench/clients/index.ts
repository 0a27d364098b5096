/**
 * What instrumentation costs each command: clients without any, with throughline, and with OpenTelemetry's own, on
 * local servers. Contestants take turns within a round, in an order that rotates; a ratio is taken within its round.
 */
import type { ChildProcess } from 'node:child_process'
import mysql from 'mysql2/promise'
import { startMariadb } from '../../test/support/mariadb.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { startRedis } from '../../test/support/redis.ts'
import {
  type Benchmark,
  type BenchOptions,
  type BenchResult,
  describeMachine,
  median,
  medianOfRatios,
  progress,
  round,
} from '../benchmark.ts'
import { atEnd } from '../processes.ts'
import { formatTable } from '../table.ts'
import { endWorker, type Samples, sampleInTurns, startWorker } from '../workers.ts'
import { CASES, type ServerName } from './contestants.ts'
import type { Task, Timed } from './worker.ts'

/** `<ours>/<rival>`, for each case that has both. */
const PAIRS = [
  ['throughline', 'bare'],
  ['throughline', 'OpenTelemetry'],
  ['OpenTelemetry', 'bare'],
  ['throughline', 'OpenTelemetry without connect spans'],
  ['OpenTelemetry without connect spans', 'bare'],
  ['throughline without comments', 'bare'],
  ['throughline not sampled', 'bare'],
  ['throughline not sampled', 'OpenTelemetry not sampled'],
  ['OpenTelemetry not sampled', 'bare'],
] as const

const MEASURES = {
  'commands per second': 'commandsPerSecond',
  'client CPU per command': 'clientCpuMicroseconds',
} as const

export const clients: Benchmark = {
  summary: "commands per second of database and KV clients: bare, throughline, and OpenTelemetry's own",
  async run(options) {
    const samples: Samples<Timed> = {}
    for (const [name, { server, contestants }] of Object.entries(CASES)) {
      const url = await urlOf(server)
      Object.assign(samples, await sampleCase(name, Object.keys(contestants), url, options))
    }
    const result: BenchResult = {
      bench: 'clients',
      machine: describeMachine(),
      options: { ...options },
      rows: rowsOf(samples),
      ratios: ratiosOf(samples),
    }
    return { result, table: tableOf(result) }
  },
}

async function sampleCase(
  name: string,
  contestants: readonly string[],
  url: string,
  { rounds, seconds, connections }: BenchOptions,
): Promise<Samples<Timed>> {
  const workers = new Map<string, ChildProcess>()
  for (const contestant of contestants) {
    const worker = await startWorker(
      new URL('worker.ts', import.meta.url),
      [name, contestant, url],
      // The tests' Postgres logs every statement; here that would take CPU from the client.
      process.env.DATABASE_URL ? {} : { env: { ...process.env, PGOPTIONS: '-c log_statement=none' } },
    )
    workers.set(contestant, worker)
  }
  const samples = await sampleInTurns<Timed>({
    workers,
    rounds,
    tasks: { [name]: { seconds, connections } satisfies Task },
    describe: ({ commandsPerSecond }) => `${Math.round(commandsPerSecond)}/s`,
  })
  for (const worker of workers.values()) await endWorker(worker)
  return samples
}

const urls = new Map<ServerName, string>()

async function urlOf(name: ServerName): Promise<string> {
  const known = urls.get(name)
  if (known !== undefined) return known
  progress(`starting ${name}`)
  const server = await SERVERS[name]()
  if (server === undefined) throw new Error(`This benchmark needs a ${name}.`)
  atEnd(() => server.stop())
  urls.set(name, server.url)
  return server.url
}

const SERVERS: Record<ServerName, () => Promise<{ url: string; stop(): Promise<void> } | undefined>> = {
  redis: startRedis,
  postgres: startPostgres,
  mariadb: startQuietMariadb,
}

/** Without the tests' log of every statement. */
async function startQuietMariadb() {
  const server = await startMariadb()
  if (server === undefined || process.env.MYSQL_URL) return server
  const connection = await mysql.createConnection(server.url)
  await connection.query('SET GLOBAL general_log = 0')
  await connection.end()
  return server
}

function rowsOf(samples: Samples<Timed>): BenchResult['rows'] {
  return Object.entries(samples).flatMap(([caseName, contestants]) =>
    Object.keys(contestants).map((contestant) => {
      const medianOf = (measure: keyof Timed) =>
        round(median(valuesOf(samples, caseName, contestant, measure)), 2)
      return {
        case: caseName,
        contestant,
        commandsPerSecond: Math.round(medianOf('commandsPerSecond')),
        p50Ms: medianOf('p50Ms'),
        p99Ms: medianOf('p99Ms'),
        clientCpuMicroseconds: medianOf('clientCpuMicroseconds'),
        addedCpuMicroseconds: round(median(addedCpu(samples, caseName, contestant)), 1),
      }
    }),
  )
}

/** Beyond the bare client, in each round. */
function addedCpu(samples: Samples<Timed>, caseName: string, contestant: string): number[] {
  const bare = valuesOf(samples, caseName, 'bare', 'clientCpuMicroseconds')
  return valuesOf(samples, caseName, contestant, 'clientCpuMicroseconds').map(
    (value, round) => value - (bare[round] ?? Number.NaN),
  )
}

function ratiosOf(samples: Samples<Timed>): Record<string, number> {
  const ratios: Record<string, number> = {}
  for (const [caseName, contestants] of Object.entries(samples)) {
    for (const [title, measure] of Object.entries(MEASURES)) {
      for (const [ours, rival] of PAIRS) {
        if (contestants[ours] === undefined || contestants[rival] === undefined) continue
        ratios[`${caseName}: ${ours}/${rival} (${title})`] = round(
          medianOfRatios(
            valuesOf(samples, caseName, ours, measure),
            valuesOf(samples, caseName, rival, measure),
          ),
          3,
        )
      }
    }
  }
  return ratios
}

function valuesOf(
  samples: Samples<Timed>,
  caseName: string,
  contestant: string,
  measure: keyof Timed,
): number[] {
  return (samples[caseName]?.[contestant] ?? []).map((timed) => timed[measure])
}

function tableOf({ machine, options, rows, ratios }: BenchResult): string {
  const figures = formatTable(
    ['', 'per second', 'p50 ms', 'p99 ms', 'client CPU µs', 'added to bare'],
    rows.map(({ case: caseName, contestant, ...measured }) => [
      `${caseName}, ${contestant}`,
      ...Object.values(measured).map(String),
    ]),
  )
  const titles = Object.keys(MEASURES)
  const ratioTable = formatTable(
    ['ratio', ...titles],
    Object.keys(CASES).flatMap((caseName) =>
      PAIRS.map(([ours, rival]) => `${caseName}: ${ours}/${rival}`)
        .filter((pair) => `${pair} (${titles[0]})` in ratios)
        .map((pair) => [pair, ...titles.map((title) => String(ratios[`${pair} (${title})`]))]),
    ),
  )
  const conditions = `${options.rounds} rounds of ${options.seconds} s, ${options.connections} requests in flight`
  return `${conditions}\n${Object.values(machine).join(', ')}\n\n${figures}\n\n${ratioTable}`
}
