/** One contestant, checked and timed in a process of its own. */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { answerTasks } from '../workers.ts'
import { CONTESTANTS, type Outbox, POLLING_SECONDS } from './contestants.ts'

/** What the benchmark asks for. */
export type Task =
  | { kind: 'send'; seconds: number }
  | { kind: 'handle' | 'write'; messages: number }
  | { kind: 'latency'; messages: number }

/** What it answers: of `latency` that alone, of the others all but that. */
export interface Timed {
  perSecond?: number
  /** From the commit to the handler, in milliseconds, the mean. */
  latencyMs?: number
  /** Of this process, with all its threads. */
  cpuMicroseconds?: number
  /** Statements sent to Postgres for each message. */
  roundTrips?: number
}

const [name = '', url = '', handsText = ''] = process.argv.slice(2)
const contestant = CONTESTANTS[name]
if (contestant === undefined) throw new Error(`No contestant "${name}".`)
// Log lines are not what is compared.
process.env.THROUGHLINE_LOG_LEVEL = 'silent'

let statements = 0
const { query } = pg.Client.prototype
pg.Client.prototype.query = function (this: pg.Client, ...args: never[]) {
  statements += 1
  return (query as (...all: never[]) => never).apply(this, args)
} as typeof query

const hands = Number(handsText)
const schema = `bench_${name.replace(/\W/g, '_')}`
const pool = new pg.Pool({ connectionString: url, max: hands * 2 + 4 })
const outbox: Outbox = await contestant.open({ pool, url, schema, hands })
let orders = Date.now() * 1000
answerTasks<Task>((task) => answer(task))

async function answer(task: Task): Promise<Timed> {
  await pool.query(`DELETE FROM ${schema}.job`)
  if (task.kind === 'send') return timed(() => sendFor(task.seconds))
  if (task.kind === 'latency') return latency(task.messages)
  // Sent beforehand, by as many as work.
  await Promise.all(
    Array.from({ length: hands }, async (_, hand) => {
      for (let sent = hand; sent < task.messages; sent += hands) await send()
    }),
  )
  await pool.query(`VACUUM ANALYZE ${schema}.job`)
  return timed(() => handle(task.messages, task.kind === 'write'))
}

async function timed(work: () => Promise<number>): Promise<Timed> {
  const cpuBefore = process.cpuUsage()
  const statementsBefore = statements
  const startedMs = performance.now()
  const messages = await work()
  const elapsedMs = performance.now() - startedMs
  const { user, system } = process.cpuUsage(cpuBefore)
  return {
    perSecond: (messages / elapsedMs) * 1_000,
    cpuMicroseconds: (user + system) / messages,
    roundTrips: (statements - statementsBefore) / messages,
  }
}

async function sendFor(seconds: number): Promise<number> {
  const endMs = performance.now() + seconds * 1_000
  let sent = 0
  await Promise.all(
    Array.from({ length: hands }, async () => {
      for (; performance.now() < endMs; sent += 1) await send()
    }),
  )
  return sent
}

async function handle(messages: number, isWriting: boolean): Promise<number> {
  let left = messages
  let finish = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const end = await outbox.work(isWriting, () => {
    left -= 1
    if (left === 0) finish()
  })
  await finished
  // What is begun is ended: the last ones are said to be done.
  await end()
  const { rows } = await pool.query(
    `SELECT count(*)::int AS done FROM ${schema}.job WHERE state = 'completed'`,
  )
  if (rows[0].done !== messages) throw new Error(`${name}: ${rows[0].done} of ${messages} are done.`)
  return messages
}

/**
 * One message at a time, to a worker that waits for it. It looks at once when it has handled one, and then at an
 * interval: messages are sent at moments that are spread evenly over that.
 */
async function latency(messages: number): Promise<Timed> {
  let arrived: (() => void) | undefined
  const end = await outbox.work(false, () => arrived?.())
  const latencies: number[] = []
  for (let message = 0; message < messages; message += 1) {
    await sleep(((message + 0.5) / messages) * POLLING_SECONDS * 1_000)
    const arrival = new Promise<void>((resolve) => {
      arrived = resolve
    })
    await send()
    const sentMs = performance.now()
    await arrival
    latencies.push(Math.max(0, performance.now() - sentMs))
  }
  await end()
  const mean = latencies.reduce((sum, each) => sum + each, 0) / messages
  return { latencyMs: mean }
}

function send(): Promise<void> {
  orders += 1
  return outbox.send(orders)
}
