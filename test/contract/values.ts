/** Any value that a body may return, for the property that a replay gives it back as it was. */
import fc from 'fast-check'
import { expect } from 'vitest'
import { type AnyStore, runOnce } from '../../src/idempotency/index.ts'

const anyValue = fc.oneof(
  fc.anything({ withDate: true, withMap: true, withSet: true, withBigInt: true, withTypedArray: true }),
  fc.string({ unit: 'binary' }),
  fc.constant(undefined),
)

/** Runs once and replays, for values of every kind, and for one of about a megabyte. */
export async function expectReplayedValues(store: AnyStore, use: () => { key: string }): Promise<void> {
  const options = () => ({ name: 'createOrder', scope: 'ann', payload: {}, suspectWindowMs: 0, ...use() })
  await fc.assert(
    fc.asyncProperty(anyValue, async (value) => {
      const once = options()
      const first = await runOnce(store, once, () => value).catch((error: unknown) => error)
      const again = await runOnce(store, once, () => 'ran again').catch((error: unknown) => error)
      // What cannot be written is refused on a replay, and never run again.
      if ((again as { code?: string } | undefined)?.code === 'IDEMPOTENCY_NOT_REPLAYABLE') return
      expect(again).toEqual(first)
    }),
    { numRuns: 40 },
  )
  const megabyte = 'é😀\u0000\n"\\|'.repeat(40_000)
  const once = options()
  await runOnce(store, once, () => megabyte)
  expect((await runOnce(store, once, () => 'ran again')) === megabyte).toBe(true)
}
