/**
 * The behaviour every store in the caller's transaction has. A store's test hands in how to make it, and how
 * to write and count a row through its client: what commits is counted in the table, not in the code.
 */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { TransactionalStore } from '../../src/idempotency/contract.ts'
import { identityOf } from '../../src/idempotency/identity.ts'
import { type RunOnceOptions, runOnce, type TransactionRun } from '../../src/idempotency/index.ts'
import { expectReplayedValues } from './values.ts'

/** A store, and the app's own table `orders`, through one client. */
export interface TransactionalSetUp<Tx> {
  /** Makes a store that reads the time from `now`, or by the server's clock. A second on the same records is another process. */
  createStores(now?: () => number): Promise<[TransactionalStore<Tx>, TransactionalStore<Tx>]>
  insert(tx: Tx, item: string): Promise<unknown>
  /** How many orders of the item are committed. */
  count(item: string): Promise<number>
  /** A statement that the database refuses. */
  fail(tx: Tx): Promise<unknown>
}

/** @param setUp called within tests, when the servers are up */
export function describeTransactionalStore<Tx>(name: string, setUp: () => TransactionalSetUp<Tx>): void {
  describe(`${name} keeps the contract of a store in the transaction`, () => {
    const use = (changes: Partial<RunOnceOptions> = {}) => ({
      name: 'createOrder',
      scope: 'ann',
      key: randomUUID(),
      payload: { item: 'tea' },
      ...(changes as object),
    })

    it('commits one row for 50 callers at once, and gives all the same result', async () => {
      const { createStores, insert, count } = setUp()
      const stores = await createStores()
      const item = randomUUID()
      const options = use({ inFlight: { waitMs: 20_000 } })
      let runs = 0
      const results = await Promise.all(
        Array.from({ length: 50 }, (_, caller) =>
          runOnce(stores[caller % 2 === 0 ? 0 : 1], options, async ({ tx }) => {
            runs += 1
            await insert(tx, item)
            return { order: runs, at: new Date(0) }
          }),
        ),
      )
      expect(runs).toBe(1)
      expect(await count(item)).toBe(1)
      expect(results).toEqual(Array(50).fill({ order: 1, at: new Date(0) }))
    })

    it('refuses or replays for 50 callers that do not wait, and commits one row', async () => {
      const { createStores, insert, count } = setUp()
      const stores = await createStores()
      const item = randomUUID()
      const options = use()
      const ends = await Promise.allSettled(
        Array.from({ length: 50 }, (_, caller) =>
          runOnce(stores[caller % 2 === 0 ? 0 : 1], options, ({ tx }) => insert(tx, item).then(() => 'done')),
        ),
      )
      expect(await count(item)).toBe(1)
      for (const end of ends) {
        if (end.status === 'fulfilled') expect(end.value).toBe('done')
        else expect(end.reason).toMatchObject({ code: 'IDEMPOTENCY_BUSY' })
      }
      expect(await runOnce(stores[1], options, () => 'again')).toBe('done')
    })

    it('rolls back the record with the writes when the body throws, so that the next try runs', async () => {
      const { createStores, insert, count } = setUp()
      const [store] = await createStores()
      const item = randomUUID()
      const options = use()
      const key = identityOf('ann', 'createOrder', options.key).key
      const failing = runOnce(store, options, async ({ tx }) => {
        await insert(tx, item)
        throw new Error('out of tea')
      })
      await expect(failing).rejects.toThrow('out of tea')
      expect(await count(item)).toBe(0)
      expect(await store.read(key)).toBeUndefined()
      expect(await runOnce(store, options, ({ tx }) => insert(tx, item).then(() => 'done'))).toBe('done')
      expect(await count(item)).toBe(1)
    })

    it('lets a caller that waited run when the one before it rolled back', async () => {
      const { createStores, insert, count } = setUp()
      const [here, there] = await createStores()
      const item = randomUUID()
      const options = use({ inFlight: { waitMs: 20_000 } })
      let enter = () => {}
      const entered = new Promise<void>((resolve) => {
        enter = resolve
      })
      const failing = runOnce(here, options, async ({ tx }) => {
        await insert(tx, item)
        enter()
        await new Promise((resolve) => setTimeout(resolve, 50))
        throw new Error('out of tea')
      }).catch((error: unknown) => error)
      await entered
      const waiting = await runOnce(there, options, ({ tx }) => insert(tx, item).then(() => 'second'))
      expect(await failing).toMatchObject({ message: 'out of tea' })
      expect(waiting).toBe('second')
      expect(await count(item)).toBe(1)
    })

    it('commits what a body throws on purpose, and throws it again on a replay', async () => {
      const { createStores, insert, count } = setUp()
      const [store] = await createStores()
      const item = randomUUID()
      const options = {
        ...use(),
        thrown: {
          capture: (error: unknown) => (error instanceof Error ? error.message : undefined),
          restore: (message: unknown) => new Error(String(message)),
        },
      }
      const order = async ({ tx }: TransactionRun<Tx>) => {
        await insert(tx, item)
        throw new Error('to /orders/1')
      }
      await expect(runOnce(store, options, order)).rejects.toThrow('to /orders/1')
      await expect(runOnce(store, options, order)).rejects.toThrow('to /orders/1')
      expect(await count(item)).toBe(1)
    })

    it('commits nothing when the body swallowed an error of the database', async () => {
      const { createStores, insert, count, fail } = setUp()
      const [store] = await createStores()
      const item = randomUUID()
      const options = use()
      const swallowing = runOnce(store, options, async ({ tx }) => {
        await insert(tx, item)
        await fail(tx).catch(() => {})
        return 'done'
      })
      await expect(swallowing).rejects.toThrow()
      expect(await count(item)).toBe(0)
      expect(await runOnce(store, options, ({ tx }) => insert(tx, item).then(() => 'done'))).toBe('done')
      expect(await count(item)).toBe(1)
    })

    it('refuses another payload under a used key, and never shows one scope the result of another', async () => {
      const { createStores } = setUp()
      const [store] = await createStores()
      const options = use()
      await runOnce(store, options, () => "ann's order")
      const other = runOnce(store, { ...options, payload: { item: 'coffee' } }, () => 'coffee')
      await expect(other).rejects.toMatchObject({ code: 'IDEMPOTENCY_MISMATCH' })
      expect(await runOnce(store, { ...options, scope: 'bob' }, () => "bob's order")).toBe("bob's order")
      expect(await runOnce(store, options, () => 'again')).toBe("ann's order")
    })

    it('forgets a result when its retention, counted from completion, is over', async () => {
      const { createStores } = setUp()
      let nowMs = 1_790_000_000_000
      const [store] = await createStores(() => nowMs)
      const options = { ...use(), retentionMs: 10_000, retryHorizonMs: 10_000 }
      expect(await runOnce(store, options, () => 1)).toBe(1)
      nowMs += 9_999
      expect(await runOnce(store, options, () => 2)).toBe(1)
      nowMs += 1
      expect(await runOnce(store, options, () => 3)).toBe(3)
    })

    it('counts hits, and keeps the timeline of the key', async () => {
      const { createStores } = setUp()
      const [store] = await createStores()
      const options = use()
      const seen: unknown[] = []
      const shown = {
        ...options,
        onUse: ({ outcome, hits }: { outcome: string; hits?: number }) => seen.push([outcome, hits]),
      }
      for (let turn = 0; turn < 3; turn += 1) await runOnce(store, shown, () => 'done')
      expect(seen).toEqual([
        ['won', 0],
        ['replay', 1],
        ['replay', 2],
      ])
    })

    it('replays values as they were', async () => {
      const { createStores } = setUp()
      const [store] = await createStores()
      await expectReplayedValues(store, () => ({ key: randomUUID() }))
    }, 60_000)

    it('cannot be told to run without its database', async () => {
      const { createStores } = setUp()
      const [store] = await createStores()
      const open = runOnce(store, { ...use(), outage: 'open' as 'closed' }, () => 'ran')
      await expect(open).rejects.toThrow(/"outage" must be closed for the (?:postgres|hybrid) store/)
    })
  })
}
