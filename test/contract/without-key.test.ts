import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { global, runOnce } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'

/** Runs without a key; each run answers with its number. */
function setUp() {
  let nowMs = 1_790_000_000_000
  const store = memoryStore({ name: randomUUID(), now: () => nowMs })
  const options = {
    name: 'createOrder',
    scope: 'ann',
    key: undefined,
    payload: { item: 'tea' },
    withoutKey: { windowMs: 60_000 },
  }
  let runs = 0
  return {
    pass: (ms: number) => {
      nowMs += ms
    },
    use: (changes: object = {}) => runOnce(store, { ...options, ...changes }, () => ++runs),
  }
}

describe('a use without a key that stands for itself', () => {
  it('is repeated by the same payload from the same scope, within the window', async () => {
    const { use, pass } = setUp()
    expect(await use()).toBe(1)
    pass(59_999)
    expect(await use()).toBe(1)
    expect(await use({ payload: { item: 'coffee' } })).toBe(2)
    expect(await use({ scope: 'bob' })).toBe(3)
    expect(await use({ name: 'createRefund' })).toBe(4)
    pass(1)
    expect(await use()).toBe(5)
  })

  it('never meets the record of a key', async () => {
    const { use } = setUp()
    expect(await use()).toBe(1)
    expect(await use({ key: randomUUID() })).toBe(2)
  })

  it('is refused under the scope of everyone, and where nothing was said', async () => {
    const { use } = setUp()
    await expect(use({ scope: global() })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_MISSING' })
    await expect(use({ withoutKey: undefined })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_MISSING' })
    await expect(use({ withoutKey: 'refuse' })).rejects.toMatchObject({ code: 'IDEMPOTENCY_KEY_MISSING' })
  })
})
