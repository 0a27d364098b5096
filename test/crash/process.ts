/**
 * One process that uses one key, and stops at a step: started by `crash.test.ts`, which kills it there.
 * `node process.ts <set-up as JSON>`. Prints each step it passes; a step is a boundary before or after a
 * command to a server, or within the body.
 */
import { PGlite } from '@electric-sql/pglite'
import { Redis as UpstashRedis } from '@upstash/redis'
import { Redis } from 'ioredis'
import pg from 'pg'
import { type AnyStore, runOnce } from 'throughline/idempotency'
import { hybridStore } from 'throughline/idempotency/hybrid'
import { memoryStore } from 'throughline/idempotency/memory'
import { postgresStore } from 'throughline/idempotency/postgres'
import { redisStore } from 'throughline/idempotency/redis'
import { upstashStore } from 'throughline/idempotency/upstash'

/** What one process does. */
export interface SetUp {
  store: 'memory' | 'redis' | 'upstash' | 'postgres lease' | 'postgres' | 'PGlite' | 'hybrid'
  onUnknown: 'retain' | 'rerun'
  key: string
  /** The step to stop at, from 1; 0 runs to the end. */
  stopAt: number
  leaseMs: number
  databaseUrl: string
  redisUrl: string
  upstash: { url: string; token: string }
  /** Where PGlite keeps its files. */
  pgliteFolder: string
}

const setUp: SetUp = JSON.parse(process.argv[2] ?? '{}')

let steps = 0
/** A boundary. At the one to stop at, nothing goes on: no timer, no lease, no answer. */
function step(name: string): void {
  steps += 1
  process.stdout.write(`step ${steps} ${name}\n`)
  if (steps === setUp.stopAt) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}

/** The client, with a step before and after each of the named methods. */
function stepping<T extends object>(client: T, methods: string[], nameOf: (args: unknown[]) => string): T {
  return new Proxy(client, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property)
      if (typeof value !== 'function') return value
      if (!methods.includes(String(property))) return value.bind(target)
      return async (...args: unknown[]) => {
        const name = nameOf(args)
        const counts = !isBackground(args)
        if (counts) step(`before ${name}`)
        const result = await Reflect.apply(value, target, args)
        if (counts) step(`after ${name}`)
        return result
      }
    },
  })
}

/** The look at the server, which a claim does not wait for: it comes at any step. */
const isBackground = ([text]: unknown[]) => String(text).includes('pg_is_in_recovery')

const textOf = ([text]: unknown[]) => /^\s*(?:WITH this AS|\w+ \w+|\w+)/.exec(String(text))?.[0].trim() ?? ''
const verbOf = (args: unknown[]) => {
  const verb = args
    .flat()
    .find((part) => ['complete', 'markEffects', 'abort', 'renew'].includes(String(part)))
  return String(verb ?? 'claim')
}

const pool = new pg.Pool({ connectionString: setUp.databaseUrl, max: 4 })
const steppingPool = new Proxy(pool, {
  get(target, property) {
    if (property === 'connect') {
      return async () => stepping(await pool.connect(), ['query'], textOf)
    }
    const value: unknown = Reflect.get(target, property)
    if (property === 'query') {
      return (...args: unknown[]) =>
        Reflect.get(stepping(pool, ['query'], textOf), 'query').apply(pool, args as never)
    }
    return typeof value === 'function' ? value.bind(target) : value
  },
})
const redis = () => stepping(new Redis(setUp.redisUrl), ['evalsha'], verbOf)

const INSERT = 'INSERT INTO effects (key) VALUES ($1)'

/** The effect apart from the record: a row by a connection of its own. */
async function effectApart(run: { markEffects(): Promise<void> }): Promise<string> {
  step('in the body')
  await run.markEffects()
  step('after markEffects')
  await pool.query(INSERT, [setUp.key])
  step('after the effect')
  return 'done'
}

/** The effect in the transaction. */
async function effectWithin({
  tx,
}: {
  tx: { query(text: string, values: unknown[]): Promise<unknown> }
}): Promise<string> {
  step('in the body')
  await tx.query(INSERT, [setUp.key])
  step('after the effect')
  return 'done'
}

async function main(): Promise<void> {
  const { store: name, onUnknown, key, leaseMs } = setUp
  const options = {
    name: 'createOrder',
    scope: 'ann',
    key,
    payload: {},
    leaseMs,
    inFlight: { waitMs: 20_000 },
  }
  // biome-ignore lint/suspicious/noExplicitAny: the body goes with its store.
  const run = (store: AnyStore, body: any) =>
    runOnce(store, { ...options, onUse: ({ outcome }) => process.stdout.write(`outcome ${outcome}\n`) }, body)
  switch (name) {
    case 'memory':
      return report(run(memoryStore({ onUnknown }), effectApart))
    case 'redis':
      return report(run(redisStore(redis(), { onUnknown }), effectApart))
    case 'upstash': {
      const client = stepping(new UpstashRedis(setUp.upstash), ['evalsha'], verbOf)
      return report(run(upstashStore(client, { onUnknown }), effectApart))
    }
    case 'postgres lease':
      return report(
        run(postgresStore(steppingPool, { mode: 'lease', onUnknown, sweepEveryMs: 0 }), effectApart),
      )
    case 'postgres':
      return report(run(postgresStore(steppingPool, { sweepEveryMs: 0 }), effectWithin))
    case 'hybrid': {
      const receipts = postgresStore(steppingPool, { sweepEveryMs: 0 })
      return report(run(hybridStore(redisStore(redis(), { onUnknown }), receipts), effectWithin))
    }
    case 'PGlite': {
      const pglite = new PGlite(setUp.pgliteFolder)
      return report(run(postgresStore(pglite, { sweepEveryMs: 0 }), effectWithin))
    }
  }
}

async function report(run: Promise<unknown>): Promise<void> {
  const end = await run.then(
    (value) => `returned ${value}`,
    (error) => `refused ${error.code ?? error.message}`,
  )
  step('after the answer')
  process.stdout.write(`end ${end}\n`)
  process.exit(0)
}

await main()
