/**
 * What tracing costs a Next server: one app, built once per set-up, under the same load in turns.
 *
 * Figures of one moment are only comparable with figures of the same moment, so set-ups take turns within a
 * round, in an order that rotates, and a ratio is taken within its round.
 */
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
import { formatTable } from '../table.ts'
import { cpuMicroseconds } from './cpu.ts'
import { chooseLoadGenerator, type LoadGenerator } from './load.ts'
import { type BenchServer, SET_UPS, startServers } from './servers.ts'

const ROUTES = ['bare', 'realistic'] as const

/** Warms up the compiler again after the other set-ups had their turn. */
const WARM_UP_SECONDS = 1

/** `<ours>/<rival>`, for each route and measure. */
const PAIRS = [
  ['vercel-otel', 'none'],
  ['sdk-node', 'none'],
  ['throughline', 'none'],
  ['throughline-no-request-log', 'none'],
  ['throughline', 'vercel-otel'],
  ['throughline', 'sdk-node'],
] as const

const MEASURES = {
  'requests per second': 'requestsPerSecond',
  'CPU per request': 'cpuMicrosecondsPerRequest',
} as const

/** One timed run. */
interface Sample {
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Undefined where there is no /proc. */
  cpuMicrosecondsPerRequest: number | undefined
  /** Spans that reached the collector meanwhile. */
  spansPerRequest: number
}

/** Samples by route, then set-up, in the order of rounds. */
type Samples = Record<string, Record<string, Sample[]>>

export const requestOverhead: Benchmark = {
  summary: 'a Next server without tracing, with @vercel/otel, with sdk-node, and with throughline',
  async run(options) {
    const generator = chooseLoadGenerator()
    progress(`load generator: ${generator.name}`)
    const servers = await startServers()
    const samples = await sampleInTurns(servers, generator, options)
    const result: BenchResult = {
      bench: 'request-overhead',
      machine: describeMachine(),
      options: { ...options, loadGenerator: generator.name },
      rows: rowsOf(samples),
      ratios: ratiosOf(samples),
    }
    return { result, table: tableOf(result) }
  },
}

async function sampleInTurns(
  servers: BenchServer[],
  generator: LoadGenerator,
  { rounds, seconds, connections }: BenchOptions,
): Promise<Samples> {
  for (const server of servers) {
    progress(`warming up ${server.setUp}`)
    for (const route of ROUTES) await generator.run(server.url + route, { seconds, connections })
  }
  const samples: Samples = {}
  for (let round = 0; round < rounds; round++) {
    for (const route of ROUTES) {
      for (const server of rotated(servers, round)) {
        await generator.run(server.url + route, { seconds: WARM_UP_SECONDS, connections })
        const sample = await takeSample(server, route, generator, { seconds, connections })
        progress(`round ${round + 1}/${rounds} ${route} ${server.setUp}: ${describe(sample)}`)
        samples[route] ??= {}
        samples[route][server.setUp] ??= []
        samples[route][server.setUp]?.push(sample)
      }
    }
  }
  return samples
}

async function takeSample(
  server: BenchServer,
  route: string,
  generator: LoadGenerator,
  options: { seconds: number; connections: number },
): Promise<Sample> {
  const spansBefore = await server.exportedSpans()
  const cpuBefore = cpuMicroseconds(server.pid)
  const load = await generator.run(server.url + route, options)
  const cpuAfter = cpuMicroseconds(server.pid)
  const spansAfter = await server.exportedSpans()
  if (load.errors > 0) {
    throw new Error(`${server.setUp}, ${route}: ${load.errors} of ${load.requests} requests failed.`)
  }
  return {
    requestsPerSecond: load.requestsPerSecond,
    p50Ms: load.p50Ms,
    p99Ms: load.p99Ms,
    cpuMicrosecondsPerRequest:
      cpuBefore === undefined || cpuAfter === undefined ? undefined : (cpuAfter - cpuBefore) / load.requests,
    spansPerRequest: (spansAfter - spansBefore) / load.requests,
  }
}

function rowsOf(samples: Samples): BenchResult['rows'] {
  return ROUTES.flatMap((route) =>
    SET_UPS.map((setUp) => {
      const medianOf = (measure: keyof Sample) => round(median(valuesOf(samples, route, setUp, measure)), 2)
      return {
        route,
        setUp,
        requestsPerSecond: medianOf('requestsPerSecond'),
        p50Ms: medianOf('p50Ms'),
        p99Ms: medianOf('p99Ms'),
        cpuMicrosecondsPerRequest: medianOf('cpuMicrosecondsPerRequest'),
        spansPerRequest: medianOf('spansPerRequest'),
      }
    }),
  )
}

function ratiosOf(samples: Samples): Record<string, number> {
  const ratios: Record<string, number> = {}
  for (const route of ROUTES) {
    for (const [title, measure] of Object.entries(MEASURES)) {
      for (const [ours, rival] of PAIRS) {
        ratios[`${route}: ${ours}/${rival} (${title})`] = round(
          medianOfRatios(valuesOf(samples, route, ours, measure), valuesOf(samples, route, rival, measure)),
          3,
        )
      }
    }
  }
  return ratios
}

function valuesOf(samples: Samples, route: string, setUp: string, measure: keyof Sample): number[] {
  return (samples[route]?.[setUp] ?? []).map((sample) => sample[measure] ?? Number.NaN)
}

function tableOf({ machine, options, rows, ratios }: BenchResult): string {
  const figures = formatTable(
    ['', 'requests/s', 'p50 ms', 'p99 ms', 'CPU µs/request', 'spans/request'],
    rows.map(({ route, setUp, ...measured }) => [
      `${route}, ${setUp}`,
      ...Object.values(measured).map(String),
    ]),
  )
  const ratioTable = formatTable(
    ['ratio', ...ROUTES.flatMap((route) => Object.keys(MEASURES).map((title) => `${route}, ${title}`))],
    PAIRS.map(([ours, rival]) => [
      `${ours}/${rival}`,
      ...ROUTES.flatMap((route) =>
        Object.keys(MEASURES).map((title) => String(ratios[`${route}: ${ours}/${rival} (${title})`])),
      ),
    ]),
  )
  const conditions = `${options.rounds} rounds of ${options.seconds} s, ${options.connections} connections, ${options.loadGenerator}`
  return `${conditions}\n${Object.values(machine).join(', ')}\n\n${figures}\n\n${ratioTable}`
}

function describe({ requestsPerSecond, cpuMicrosecondsPerRequest = Number.NaN }: Sample): string {
  return `${Math.round(requestsPerSecond)} requests/s, ${Math.round(cpuMicrosecondsPerRequest)} µs CPU each`
}
