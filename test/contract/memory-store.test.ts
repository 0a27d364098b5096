import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { describeStore, tokenOf } from './idempotency-store.ts'

describeStore('memoryStore', (now) => memoryStore({ name: randomUUID(), now }))

describe('memoryStore', () => {
  const use = (key: string) => ({ key, fingerprint: 'f', leaseMs: 1_000, retentionMs: 10_000 })

  it('shares records between stores of one name, as Next bundles this package several times', async () => {
    const name = randomUUID()
    await memoryStore({ name }).claim(use('key'))
    expect((await memoryStore({ name }).claim(use('key'))).outcome).toBe('busy')
    expect((await memoryStore({ name: randomUUID() }).claim(use('key'))).outcome).toBe('won')
  })

  it('forgets the run that ended longest ago first, and never a running one', async () => {
    const store = memoryStore({ name: randomUUID(), maxRecords: 3 })
    await store.claim(use('running'))
    const early = tokenOf(await store.claim(use('claimed early, ended late')))
    await store.complete(tokenOf(await store.claim(use('ended first'))), 'result')
    await store.complete(early, 'result')

    await store.claim(use('new'))
    expect(await store.read('ended first')).toBeUndefined()
    await store.claim(use('newer'))
    expect(await store.read('claimed early, ended late')).toBeUndefined()
    await store.claim(use('newest'))
    for (const key of ['running', 'new', 'newer', 'newest']) expect(await store.read(key)).toBeDefined()
  })

  it('forgets a key of unknown outcome only when nothing else has ended', async () => {
    const store = memoryStore({ name: randomUUID(), maxRecords: 2 })
    await store.markUnknown(tokenOf(await store.claim(use('unknown'))))
    await store.complete(tokenOf(await store.claim(use('completed'))), 'result')
    await store.claim(use('new'))
    expect(await store.read('completed')).toBeUndefined()
    expect(await store.read('unknown')).toBeDefined()
    await store.claim(use('newer'))
    expect(await store.read('unknown')).toBeUndefined()
  })

  it('refuses a bound that is none', () => {
    expect(() => memoryStore({ maxRecords: 0 })).toThrow(/"maxRecords" must be a whole number above 0/)
  })
})
