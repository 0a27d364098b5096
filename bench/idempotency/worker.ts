/** One contestant, checked and timed in a process of its own. */
import { randomUUID } from 'node:crypto'
import { createClient } from 'redis'
import { percentile } from '../benchmark.ts'
import { answerTasks } from '../workers.ts'
import { CONTESTANTS, type Payload, type Result } from './contestants.ts'

/** What the benchmark asks for. */
export type Task =
  | { kind: 'check' }
  /** `first`: each key is new. `replay`: each key has been used. */
  | { kind: 'first' | 'replay'; seconds: number; connections: number }

/** The answer to `check`: commands sent for one use, each awaited, so each a round trip. */
export interface Checked {
  first: number
  replay: number
}

/** The answer to the others. */
export interface Timed {
  operationsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Of this process, with all its threads. */
  clientCpuMicroseconds: number
  serverCpuMicroseconds: number
}

const PAYLOAD: Payload = { item: 'Oolong tea', quantity: 2 }
const RESULT: Result = { orderId: 1, placedAt: '2026-01-01T00:00:00.000Z' }

/** Keys that are used for replays. */
const KNOWN_KEYS = 500

const [name = '', url = ''] = process.argv.slice(2)
const build = CONTESTANTS[name]
if (build === undefined) throw new Error(`No contestant "${name}".`)
const contestant = await build(url)
const observer = await createClient({ url }).connect()
let runs = 0

answerTasks<Task>((task) => (task.kind === 'check' ? check() : time(task)))

function body(): Result {
  runs += 1
  return RESULT
}

async function time({ kind, seconds, connections }: Extract<Task, { seconds: number }>): Promise<Timed> {
  const known = kind === 'replay' ? await takeKeys() : []
  const latencies: number[] = []
  runs = 0
  const serverBefore = await serverCpuMicroseconds()
  const cpuBefore = process.cpuUsage()
  const startedMs = performance.now()
  const endMs = startedMs + seconds * 1_000
  let next = 0
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (let beganMs = performance.now(); beganMs < endMs; ) {
        if (kind === 'first') await contestant.first(randomUUID(), PAYLOAD, body)
        else await contestant.replay(known[next++ % KNOWN_KEYS] ?? '', PAYLOAD, body)
        const endedMs = performance.now()
        latencies.push(endedMs - beganMs)
        beganMs = endedMs
      }
    }),
  )
  const elapsedMs = performance.now() - startedMs
  const cpu = process.cpuUsage(cpuBefore)
  const serverCpu = (await serverCpuMicroseconds()) - serverBefore
  const expectedRuns = kind === 'first' ? latencies.length : 0
  if (runs !== expectedRuns) throw new Error(`${name} ran ${runs} times, and should ${expectedRuns} times.`)
  latencies.sort((a, b) => a - b)
  return {
    operationsPerSecond: (latencies.length / elapsedMs) * 1_000,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    clientCpuMicroseconds: (cpu.user + cpu.system) / latencies.length,
    serverCpuMicroseconds: serverCpu / latencies.length,
  }
}

async function takeKeys(): Promise<string[]> {
  const keys = Array.from({ length: KNOWN_KEYS }, () => randomUUID())
  for (const key of keys) await contestant.first(key, PAYLOAD, body)
  return keys
}

async function serverCpuMicroseconds(): Promise<number> {
  const info = await observer.info('cpu')
  const seconds = [...info.matchAll(/^used_cpu_(?:user|sys):([\d.]+)/gm)].map(([, value]) => Number(value))
  return seconds.reduce((sum, value) => sum + value, 0) * 1e6
}

/** @throws {Error} for a contestant that runs twice, or replays something else. */
async function check(): Promise<Checked> {
  // Scripts are loaded, and the server looked at, by the first use of a process: that is not counted.
  await contestant.first(randomUUID(), PAYLOAD, body)
  const key = randomUUID()
  runs = 0
  const first = await countingCommands(() => contestant.first(key, PAYLOAD, body))
  const replay = await countingCommands(() => contestant.replay(key, PAYLOAD, body))
  for (const { answer } of [first, replay]) {
    const text = typeof answer === 'string' ? answer : JSON.stringify(answer)
    if (text !== JSON.stringify(RESULT)) throw new Error(`${name} answered ${text}.`)
  }
  if (runs !== 1) throw new Error(`${name} ran ${runs} times.`)
  return { first: first.commands, replay: replay.commands }
}

async function countingCommands<T>(use: () => Promise<T>): Promise<{ answer: T; commands: number }> {
  const watcher = await createClient({ url }).connect()
  const mark = randomUUID()
  let commands = 0
  let end: () => void = () => {}
  const ended = new Promise<void>((resolve) => {
    end = resolve
  })
  await watcher.monitor((line) => {
    if (String(line).includes(mark)) end()
    // What a script does inside the server is no round trip.
    else if (!/^\S+ \[\d+ lua\]/.test(String(line))) commands += 1
  })
  const answer = await use()
  await observer.echo(mark)
  await ended
  watcher.destroy()
  return { answer, commands }
}
