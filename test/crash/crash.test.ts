/**
 * A process killed between every two steps of a guarded run, on every store. The key is then used again by a
 * new process, and the rows that the effect left are counted: they must be what the store promises.
 */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { PGlite } from '@electric-sql/pglite'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { migrate } from '../../src/idempotency/stores/postgres.ts'
import { startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'
import { startUpstashBridge } from '../support/upstash-bridge.ts'
import type { SetUp } from './process.ts'

const PROCESS = fileURLToPath(new URL('process.ts', import.meta.url))

const [postgres, redis] = await Promise.all([startPostgres(), startRedis()])
const bridge = redis && (await startUpstashBridge(redis.url))
const pool = new pg.Pool({ connectionString: postgres?.url })
// The server goes while connections are idle.
pool.on('error', () => {})
const folder = mkdtempSync(join(tmpdir(), 'throughline-crash-'))

const EFFECTS = 'CREATE TABLE IF NOT EXISTS effects (key text NOT NULL)'

beforeAll(async () => {
  if (postgres === undefined) return
  await pool.query(EFFECTS)
  await migrate(pool)
})
afterAll(async () => {
  await pool.end()
  await bridge?.stop()
  await Promise.all([postgres?.stop(), redis?.stop()])
  rmSync(folder, { recursive: true, force: true })
})

/** How a process ended, or what it had done when it was killed. */
interface Trail {
  steps: string[]
  outcomes: string[]
  end: string | undefined
}

/** What a repeat may say, and how many effects there may be, after a process was killed. */
interface Promised {
  effects: readonly number[]
  ends: RegExp
}

const EXACTLY_ONCE: Promised = { effects: [1], ends: /^returned done$/ }

const cases: {
  store: SetUp['store']
  onUnknown: SetUp['onUnknown']
  promised: (step: string) => Promised
}[] = [
  { store: 'postgres', onUnknown: 'retain', promised: () => EXACTLY_ONCE },
  { store: 'PGlite', onUnknown: 'retain', promised: () => EXACTLY_ONCE },
  { store: 'hybrid', onUnknown: 'rerun', promised: () => EXACTLY_ONCE },
  // Within one process: each of the two that follow knows nothing, and runs.
  {
    store: 'memory',
    onUnknown: 'retain',
    promised: (step) => ({ effects: [/^after the/.test(step) ? 3 : 2], ends: /^returned done$/ }),
  },
  ...(['redis', 'upstash', 'postgres lease'] as const).flatMap((store) => [
    {
      store,
      onUnknown: 'retain' as const,
      // Once the effects are marked the run is not repeated; before, nothing happened, and after completion all did.
      promised: (step: string) =>
        isBetweenMarkAndCompletion(step)
          ? { effects: [0, 1], ends: /^refused IDEMPOTENCY_UNKNOWN$/ }
          : EXACTLY_ONCE,
    },
    {
      store,
      onUnknown: 'rerun' as const,
      promised: (step: string) =>
        isBetweenMarkAndCompletion(step) ? { effects: [1, 2], ends: /^returned done$/ } : EXACTLY_ONCE,
    },
  ]),
]

function isBetweenMarkAndCompletion(step: string): boolean {
  return /^(?:after markEffects|after the effect|before complete|after WITH this AS in the body|before WITH this AS at the end)/.test(
    step,
  )
}

describe.each(cases)(
  'a process killed under $store, onUnknown $onUnknown,',
  ({ store, onUnknown, promised }) => {
    const needs =
      store === 'PGlite' ? [] : /^(?:memory|postgres)/.test(store) ? [postgres] : [postgres, redis]

    it.skipIf(needs.includes(undefined))(
      'leaves what is promised, at every step',
      async () => {
        // The first makes the server load the scripts, which is no step of the others.
        await use({ store, onUnknown, key: randomUUID(), stopAt: 0, leaseMs: 20_000 })
        const whole = await use({ store, onUnknown, key: randomUUID(), stopAt: 0, leaseMs: 20_000 })
        expect(whole.end).toBe('returned done')
        const steps = whole.steps.length
        expect(steps).toBeGreaterThanOrEqual(store === 'PGlite' || store === 'memory' ? 3 : 7)
        const findings: unknown[] = []
        await inTurns(3, steps, async (index) => {
          const key = randomUUID()
          const stopAt = index + 1
          // Long enough for the process to reach its step, short enough to wait for its end.
          const killed = await use({ store, onUnknown, key, stopAt, leaseMs: 1_500 })
          expect(killed.steps).toHaveLength(stopAt)
          const next = await use({ store, onUnknown, key, stopAt: 0, leaseMs: 20_000 })
          const third = await use({ store, onUnknown, key, stopAt: 0, leaseMs: 20_000 })
          const effects = await count(store, key)
          const step = lastStep(killed.steps)
          const { effects: allowed, ends } = promised(step)
          const isKept = allowed.includes(effects) && ends.test(next.end ?? '') && third.end === next.end
          findings.push([
            isKept ? 'kept' : 'BROKEN',
            step,
            next.outcomes.at(-1),
            next.end,
            third.end,
            effects,
          ])
        })
        expect(findings.filter((finding) => (finding as string[])[0] === 'BROKEN')).toEqual([])
        expect(findings).toHaveLength(steps)
      },
      180_000,
    )
  },
)

/** The step a process was killed at; where the same statement comes twice in one run, which of the two. */
function lastStep(steps: string[]): string {
  const step = steps.at(-1) ?? ''
  if (!step.includes('WITH this AS')) return step
  return `${step} ${steps.includes('after the effect') ? 'at the end' : 'in the body'}`
}

/** Runs a process to its end, or to its step and no further. */
async function use(part: Pick<SetUp, 'store' | 'onUnknown' | 'key' | 'stopAt' | 'leaseMs'>): Promise<Trail> {
  const pgliteFolder = join(folder, part.store === 'PGlite' ? part.key : 'none')
  if (part.store === 'PGlite') await preparePglite(pgliteFolder)
  const setUp: SetUp = {
    ...part,
    databaseUrl: postgres?.url ?? '',
    redisUrl: redis?.url ?? '',
    upstash: { url: bridge?.url ?? '', token: bridge?.token ?? '' },
    pgliteFolder,
  }
  const child = spawn(process.execPath, [PROCESS, JSON.stringify(setUp)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let errors = ''
  child.stderr.on('data', (chunk) => {
    errors += chunk
  })
  const trail: Trail = { steps: [], outcomes: [], end: undefined }
  for await (const line of createInterface({ input: child.stdout })) {
    const [, kind, rest = ''] = /^(step \d+|outcome|end) (.*)$/.exec(line) ?? []
    if (kind?.startsWith('step')) trail.steps.push(rest)
    if (kind === 'outcome') trail.outcomes.push(rest)
    if (kind === 'end') trail.end = rest
    if (part.stopAt > 0 && trail.steps.length === part.stopAt) child.kill('SIGKILL')
  }
  if (trail.end === undefined && trail.steps.length !== part.stopAt) {
    throw new Error(`The process ended by itself after ${trail.steps.at(-1)}:\n${errors}`)
  }
  return trail
}

const prepared = new Set<string>()
async function preparePglite(path: string): Promise<void> {
  if (prepared.has(path)) return
  prepared.add(path)
  const pglite = new PGlite(path)
  await pglite.exec(EFFECTS)
  await migrate(pglite)
  await pglite.close()
}

async function count(store: SetUp['store'], key: string): Promise<number> {
  const text = 'SELECT count(*)::int AS n FROM effects WHERE key = $1'
  if (store !== 'PGlite') return (await pool.query(text, [key])).rows[0].n
  const pglite = new PGlite(join(folder, key))
  const { rows } = await pglite.query<{ n: number }>(text, [key])
  await pglite.close()
  return rows[0]?.n ?? -1
}

async function inTurns(lanes: number, total: number, task: (index: number) => Promise<void>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: lanes }, async () => {
      while (next < total) await task(next++)
    }),
  )
}
