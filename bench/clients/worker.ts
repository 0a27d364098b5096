/** One contestant, checked and timed in a process of its own. */
import { trace } from '@opentelemetry/api'
import { percentile } from '../benchmark.ts'
import { answerTasks } from '../workers.ts'
import { built, CASES } from './contestants.ts'
import { registerProvider } from './spans.ts'

/** What the benchmark asks for. */
export interface Task {
  seconds: number
  /** Requests in flight. */
  connections: number
}

/** What it answers. */
export interface Timed {
  commandsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Of this process, with all its threads. */
  clientCpuMicroseconds: number
}

/** Commands of a request, one after the other. */
const COMMANDS = 10

const [caseName = '', contestantName = '', url = ''] = process.argv.slice(2)
const { connect, contestants } = CASES[caseName] ?? fail(`No case "${caseName}".`)
const contestant = contestants[contestantName] ?? fail(`No contestant "${contestantName}".`)

const { createContext, randomTraceId, runInContext } =
  await built<typeof import('../../src/context/index.ts')>('src/context/index')
const { isSampled = true, isCommented = false } = contestant
const spans = registerProvider({ ...(await contestant.provider?.()), isSampled })
await contestant.instrument?.()
const client = await connect(url)
const tracer = trace.getTracer('bench')
// The first one connects: instrumentations may show that too.
await inRequest(client.command)
await check()
answerTasks<Task>(time)

async function time({ seconds, connections }: Task): Promise<Timed> {
  const latencies: number[] = []
  const cpuBefore = process.cpuUsage()
  const startedMs = performance.now()
  const endMs = startedMs + seconds * 1_000
  const sendTimed = async () => {
    for (let sent = 0; sent < COMMANDS; sent += 1) {
      const sentMs = performance.now()
      await client.command()
      latencies.push(performance.now() - sentMs)
    }
  }
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < endMs) await inRequest(sendTimed)
    }),
  )
  const elapsedMs = performance.now() - startedMs
  const cpu = process.cpuUsage(cpuBefore)
  latencies.sort((a, b) => a - b)
  return {
    commandsPerSecond: (latencies.length / elapsedMs) * 1_000,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    clientCpuMicroseconds: (cpu.user + cpu.system) / latencies.length,
  }
}

/** A request of the app, with its span: there without instrumentation too. */
function inRequest(body: () => Promise<unknown>): Promise<void> {
  const traceId = randomTraceId()
  return runInContext(createContext({ correlationId: traceId, traceId }), () =>
    tracer.startActiveSpan('request', async (span) => {
      await body()
      span.end()
    }),
  )
}

/** @throws {Error} for a contestant that leaves more or less than its spans, or not its comment. */
async function check(): Promise<void> {
  const { started, exported } = await spans.countOf(() =>
    inRequest(async () => {
      for (let sent = 0; sent < COMMANDS; sent += 1) await client.command()
    }),
  )
  const expected = 1 + contestant.spans * COMMANDS
  if (started !== expected || exported !== (isSampled ? expected : 0))
    fail(`A request started ${started} spans, ${exported} were exported. Expected: ${expected}.`)
  await inRequest(async () => {
    const text = (await client.sentText?.()) ?? ''
    if (client.sentText !== undefined && /traceparent='00-/.test(text) !== isCommented)
      fail(`The server received: ${text}`)
  })
}

function fail(message: string): never {
  throw new Error(`${caseName}, ${contestantName}: ${message}`)
}
