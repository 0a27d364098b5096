import { randomUUID } from 'node:crypto'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { runOnce } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { collectLogLines } from './log-lines.ts'

const lines = collectLogLines()
const warnings = (text: RegExp) => lines.filter(({ level, msg }) => level === 40 && text.test(String(msg)))

afterEach(() => vi.unstubAllEnvs())

/** As in a process with this environment, which is read once. */
async function freshTimesOf() {
  vi.resetModules()
  return (await import('../../src/idempotency/times.ts')).timesOf
}

describe('how long things last', () => {
  it('warns once when a result is forgotten before callers stop retrying, and says the mend', async () => {
    const store = memoryStore({ name: randomUUID() })
    for (let turn = 0; turn < 3; turn += 1) {
      const options = {
        name: 'shortLived',
        scope: 'ann',
        key: randomUUID(),
        payload: {},
        retentionMs: 60_000,
      }
      await runOnce(store, options, () => 'done')
    }
    const found = () => warnings(/"shortLived" forgets its result after 60000 ms/)
    await expect.poll(found).toHaveLength(1)
    expect(found()[0]?.msg).toMatch(/retry for 3600000 ms.*Mend it with a longer retentionMs/)
  })

  it('says nothing when the caller knows better', async () => {
    const timesOf = await freshTimesOf()
    timesOf({ name: 'known', retentionMs: 60_000, retryHorizonMs: 30_000 })
    timesOf({ name: 'known' })
    expect(warnings(/"known"/)).toEqual([])
  })

  it('makes the lease as long as the platform lets a request run, and warns when it is said shorter', async () => {
    vi.stubEnv('VERCEL', '1')
    const timesOf = await freshTimesOf()
    expect(timesOf({ name: 'onVercel' }).leaseMs).toBe(300_000)
    expect(warnings(/"onVercel"/)).toEqual([])
    timesOf({ name: 'onVercel', leaseMs: 10_000 })
    timesOf({ name: 'onVercel', leaseMs: 10_000 })
    await expect
      .poll(() => warnings(/"onVercel" has a lease of 10000 ms.*lets a request run for 300000 ms/))
      .toHaveLength(1)
    vi.stubEnv('THROUGHLINE_PLATFORM_LIMIT_MS', '10000')
    expect((await freshTimesOf())({ name: 'onVercel' }).leaseMs).toBe(30_000)
  })

  it.each([
    ['leaseMs', 0],
    ['leaseMs', 1e14],
    ['retentionMs', -1],
    ['retryHorizonMs', 1.5],
    ['suspectWindowMs', Number.NaN],
  ])('refuses %s: %s', async (option, value) => {
    const timesOf = await freshTimesOf()
    expect(() => timesOf({ name: 'n', [option]: value })).toThrow(`runOnce: "${option}" must be `)
  })
})
