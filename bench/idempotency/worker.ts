/**
 * One contestant in a process of its own, so that no other's garbage is collected on its time. The benchmark
 * tells it by messages what to do, one thing at a time, and no two workers work at once.
 */
import { randomUUID } from 'node:crypto'
import { createClient } from 'redis'
import { CONTESTANTS, type Payload, type PlaceOnce, type Result } from './contestants.ts'

/** What the benchmark asks for. */
export interface Task {
  /** `first`: each key is new. `replay`: each key has been used. */
  kind: 'first' | 'replay' | 'check'
  seconds: number
  /** Runs in flight. */
  connections: number
}

/** What the worker answers. */
export interface Timed {
  operationsPerSecond: number
  p50Ms: number
  p99Ms: number
  cpuMicroseconds: number
  /** Commands that the server counted for one operation: only of `check`. */
  commands?: { first: number; replay: number }
}

const PAYLOAD: Payload = { item: 'Oolong tea', quantity: 2 }
const RESULT: Result = { orderId: 1, placedAt: '2026-01-01T00:00:00.000Z' }

/** Keys that are used for replays. */
const KNOWN_KEYS = 500

const [name = '', url = ''] = process.argv.slice(2)
const contestant = CONTESTANTS[name]
if (contestant === undefined) throw new Error(`No contestant "${name}".`)
const placeOnce: PlaceOnce = await contestant(url)
const known = Array.from({ length: KNOWN_KEYS }, () => randomUUID())
for (const key of known) await placeOnce(key, PAYLOAD, () => RESULT)

process.on('message', async (task: Task) => {
  const timed = task.kind === 'check' ? await check() : await time(task)
  process.send?.(timed)
})
process.send?.('ready')

async function time({ kind, seconds, connections }: Task): Promise<Timed> {
  const latencies: number[] = []
  const cpuBefore = process.cpuUsage()
  const startedMs = performance.now()
  const endMs = startedMs + seconds * 1_000
  let next = 0
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (let beganMs = performance.now(); beganMs < endMs; ) {
        const key = kind === 'first' ? randomUUID() : (known[next++ % KNOWN_KEYS] ?? '')
        await placeOnce(key, PAYLOAD, () => RESULT)
        const endedMs = performance.now()
        latencies.push(endedMs - beganMs)
        beganMs = endedMs
      }
    }),
  )
  const elapsedMs = performance.now() - startedMs
  const cpu = process.cpuUsage(cpuBefore)
  latencies.sort((a, b) => a - b)
  return {
    operationsPerSecond: (latencies.length / elapsedMs) * 1_000,
    p50Ms: latencies[Math.floor(latencies.length * 0.5)] ?? Number.NaN,
    p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN,
    cpuMicroseconds: (cpu.user + cpu.system) / latencies.length,
  }
}

/** Runs once, replays once, and counts what that took. @throws {Error} for a contestant that does something else. */
async function check(): Promise<Timed> {
  const server = createClient({ url })
  await server.connect()
  let runs = 0
  const body = () => {
    runs += 1
    return { ...RESULT, orderId: runs }
  }
  const key = randomUUID()
  const expected = JSON.stringify({ ...RESULT, orderId: 1 })
  const counts: number[] = []
  for (let turn = 0; turn < 2; turn += 1) {
    const before = await commandsOf(server)
    const result = await placeOnce(key, PAYLOAD, body)
    counts.push((await commandsOf(server)) - before)
    if (JSON.stringify(result) !== expected) throw new Error(`${name} answered ${JSON.stringify(result)}.`)
  }
  if (runs !== 1) throw new Error(`${name} ran ${runs} times.`)
  server.destroy()
  const [first = Number.NaN, replay = Number.NaN] = counts
  const none = Number.NaN
  return {
    operationsPerSecond: none,
    p50Ms: none,
    p99Ms: none,
    cpuMicroseconds: none,
    commands: { first, replay },
  }
}

/** Commands that clients sent so far, but for INFO itself. A script's own are told apart by name. */
async function commandsOf(server: { info(section: string): Promise<string> }): Promise<number> {
  const stats = await server.info('commandstats')
  const calls = [...stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)]
  const counted = ['set', 'get', 'evalsha', 'eval']
  return calls
    .filter(([, command = '']) => counted.includes(command))
    .reduce((sum, [, , n]) => sum + Number(n), 0)
}
