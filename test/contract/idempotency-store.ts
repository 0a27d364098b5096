/**
 * The behaviour every idempotency store has. A store's test calls `describeStore` with a way to make it;
 * time is a clock that the suite moves, so nothing here sleeps.
 */
import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { Claim, ClaimRequest, IdempotencyStore } from '../../src/idempotency/contract.ts'
import { identityOf } from '../../src/idempotency/identity.ts'
import { expectReplayedValues } from './values.ts'

/** Makes a store that reads the time from `now`. Stores made by one call in a test share nothing. */
export type CreateStore = (now: () => number) => IdempotencyStore | Promise<IdempotencyStore>

const LEASE_MS = 30_000
const RETENTION_MS = 86_400_000
const ORIGIN = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), correlationId: 'first' }

export function describeStore(name: string, createStore: CreateStore): void {
  describe(`${name} keeps the store contract`, () => {
    it('lets one of 50 callers win, and tells the rest that it is busy', async () => {
      const { store } = await setUp(createStore)
      const use = requestFor()
      const claims = await Promise.all(Array.from({ length: 50 }, () => store.claim(use)))
      const outcomes = claims.map((claim) => claim.outcome)
      expect(outcomes.filter((outcome) => outcome === 'won')).toHaveLength(1)
      expect(outcomes.filter((outcome) => outcome === 'busy')).toHaveLength(49)
      expect(claims.map((claim) => claim.hits).sort((a, b) => a - b)).toEqual([...Array(50).keys()])
    })

    it('replays the same result after completion, and counts the hits', async () => {
      const { store } = await setUp(createStore)
      const use = requestFor()
      await store.complete(tokenOf(await store.claim(use)), 'result')
      expect(await store.claim(use)).toMatchObject({ outcome: 'replay', result: 'result', hits: 1, fence: 1 })
      expect(await store.claim(use)).toMatchObject({ outcome: 'replay', result: 'result', hits: 2, fence: 1 })
    })

    it('never shows one scope the result of another', async () => {
      const { store } = await setUp(createStore)
      const key = randomUUID()
      const ofAnn = requestFor({ key: identityOf('ann', 'createOrder', key).key })
      const ofBob = requestFor({ key: identityOf('bob', 'createOrder', key).key })
      await store.complete(tokenOf(await store.claim(ofAnn)), "ann's order")
      expect(await store.claim(ofBob)).toMatchObject({ outcome: 'won', hits: 0 })
    })

    it('says mismatch before busy, before replay, before unknown and before takeover', async () => {
      const { store, clock } = await setUp(createStore)
      const other = { fingerprint: 'f'.repeat(64) }

      const busy = requestFor()
      await store.claim(busy)
      expect((await store.claim({ ...busy, ...other })).outcome).toBe('mismatch')

      const completed = requestFor()
      await store.complete(tokenOf(await store.claim(completed)), 'result')
      expect(await store.claim({ ...completed, ...other })).not.toHaveProperty('result')
      expect((await store.claim({ ...completed, ...other })).outcome).toBe('mismatch')

      const unknown = requestFor()
      await store.markUnknown(tokenOf(await store.claim(unknown)))
      expect((await store.claim({ ...unknown, ...other })).outcome).toBe('mismatch')

      clock.pass(LEASE_MS)
      expect((await store.claim({ ...busy, ...other })).outcome).toBe('mismatch')
    })

    it('lets the next claim win after an abort, with a higher fence and any payload', async () => {
      const { store } = await setUp(createStore)
      const use = requestFor()
      expect(await store.abort(tokenOf(await store.claim(use)))).toBe(true)
      const next = await store.claim({ ...use, fingerprint: 'f'.repeat(64) })
      expect(next).toMatchObject({ outcome: 'won', fence: 2, hits: 1 })
      await store.complete(tokenOf(next), 'result')
      expect((await store.claim(use)).outcome).toBe('mismatch')
    })

    it('hands a run whose lease is over to the next caller, and refuses the zombie', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const zombie = tokenOf(await store.claim(use))
      clock.pass(LEASE_MS - 1)
      expect((await store.claim(use)).outcome).toBe('busy')
      clock.pass(1)
      const takeover = await store.claim(use)
      expect(takeover).toMatchObject({ outcome: 'takeover', fence: 2, hits: 2 })

      expect(await store.renew(zombie)).toBe(false)
      expect(await store.markEffects(zombie)).toBe(false)
      expect(await store.abort(zombie)).toBe(false)
      expect(await store.markUnknown(zombie)).toBe(false)
      expect(await store.complete(zombie, "the zombie's")).toBe(false)
      expect((await store.claim(use)).outcome).toBe('busy')
      expect(await store.complete(tokenOf(takeover), 'mine')).toBe(true)
      expect(await store.complete(zombie, "the zombie's")).toBe(false)
      expect(await store.claim(use)).toMatchObject({ outcome: 'replay', result: 'mine' })
    })

    it('lets one of 50 callers take over', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      await store.claim(use)
      clock.pass(LEASE_MS)
      const claims = await Promise.all(Array.from({ length: 50 }, () => store.claim(use)))
      expect(claims.filter((claim) => claim.outcome === 'takeover')).toHaveLength(1)
      expect(claims.filter((claim) => claim.outcome === 'busy')).toHaveLength(49)
    })

    it('keeps the lease of a run that renews', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const token = tokenOf(await store.claim(use))
      for (let third = 0; third < 9; third += 1) {
        clock.pass(LEASE_MS / 3)
        expect(await store.renew(token)).toBe(true)
      }
      expect((await store.claim(use)).outcome).toBe('busy')
    })

    it('lets a late run keep its result when nobody has taken over', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const token = tokenOf(await store.claim(use))
      clock.pass(LEASE_MS * 3)
      expect(await store.complete(token, 'late')).toBe(true)
      expect(await store.claim(use)).toMatchObject({ outcome: 'replay', result: 'late' })
    })

    it('never hands over a run that died after its effects began', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const token = tokenOf(await store.claim(use))
      expect(await store.markEffects(token)).toBe(true)
      expect((await store.claim(use)).outcome).toBe('busy')
      clock.pass(LEASE_MS)
      expect((await store.claim(use)).outcome).toBe('unknown')
      expect(await store.complete(token, 'it lived')).toBe(true)
      expect(await store.claim(use)).toMatchObject({ outcome: 'replay', result: 'it lived' })
    })

    it('keeps an unknown key unknown until its retention is over', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const token = tokenOf(await store.claim(use))
      expect(await store.markUnknown(token)).toBe(true)
      expect(await store.complete(token, 'too late')).toBe(false)
      clock.pass(RETENTION_MS - 1)
      expect((await store.claim(use)).outcome).toBe('unknown')
      clock.pass(1)
      expect(await store.claim(use)).toMatchObject({ outcome: 'won', fence: 1, hits: 0 })
    })

    it('forgets a result when its retention, counted from completion, is over', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const token = tokenOf(await store.claim(use))
      clock.pass(LEASE_MS / 2)
      await store.complete(token, 'result')
      clock.pass(RETENTION_MS - 1)
      expect((await store.claim(use)).outcome).toBe('replay')
      clock.pass(1)
      expect(await store.read(use.key)).toBeUndefined()
      expect(await store.complete(token, 'result')).toBe(false)
      const fresh = await store.claim(use)
      expect(fresh).toMatchObject({ outcome: 'won', fence: 1, hits: 0, firstUsedAt: clock.now() })
      const record = await store.read(use.key)
      expect(record?.uses).toHaveLength(1)
      expect(record?.result).toBeUndefined()
    })

    it('keeps where and when the first use was, whatever follows', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const first = clock.now()
      const later = { ...ORIGIN, traceId: 'c'.repeat(32), correlationId: 'later' }
      await store.abort(tokenOf(await store.claim(use)))
      clock.pass(10)
      await store.claim({ ...use, origin: later })
      clock.pass(LEASE_MS)
      await store.complete(tokenOf(await store.claim({ ...use, origin: later })), 'result')
      clock.pass(10)
      const replay = await store.claim({ ...use, origin: later })
      expect(replay).toMatchObject({ origin: ORIGIN, firstUsedAt: first, usedAt: clock.now(), fence: 3 })
    })

    it('works where there is no trace', async () => {
      const { store } = await setUp(createStore)
      const use = requestFor({ origin: undefined })
      await store.claim(use)
      expect((await store.claim(use)).origin).toBeUndefined()
    })

    it('returns results as they were given: empty, unicode, and 1 MiB', async () => {
      const { store } = await setUp(createStore)
      const megabyte = 'é😀\u0000\n"\\|'.repeat(80_000)
      expect(Buffer.byteLength(megabyte)).toBeGreaterThan(800_000)
      for (const result of ['', 'naïve 日本語 👩‍👩‍👧 \u0000\r\n', megabyte, 'x'.repeat(1_048_576)]) {
        const use = requestFor()
        await store.complete(tokenOf(await store.claim(use)), result)
        const replay = await store.claim(use)
        expect(replay.outcome === 'replay' && replay.result === result).toBe(true)
      }
    })

    it('replays values as they were', async () => {
      const { store } = await setUp(createStore)
      await expectReplayedValues(store, () => ({ key: randomUUID() }))
    }, 60_000)

    it('keeps a timeline of the last 32 uses, oldest first', async () => {
      const { store, clock } = await setUp(createStore)
      const use = requestFor()
      const start = clock.now()
      await store.complete(tokenOf(await store.claim(use)), 'result')
      for (let hit = 1; hit <= 40; hit += 1) {
        clock.pass(1)
        await store.claim({ ...use, origin: { ...ORIGIN, traceId: String(hit).padStart(32, '0') } })
      }
      const record = await store.read(use.key)
      expect(record?.hits).toBe(40)
      expect(record?.uses).toEqual(
        Array.from({ length: 32 }, (_, index) => ({
          at: start + 9 + index,
          outcome: 'replay',
          traceId: String(9 + index).padStart(32, '0'),
        })),
      )
    })

    it('does not count a waiting use that asks again', async () => {
      const { store } = await setUp(createStore)
      const use = requestFor()
      const token = tokenOf(await store.claim(use))
      await store.claim(use)
      for (let poll = 0; poll < 5; poll += 1) await store.claim({ ...use, isRepeat: true })
      await store.complete(token, 'result')
      expect(await store.claim({ ...use, isRepeat: true })).toMatchObject({ outcome: 'replay', hits: 1 })
      const outcomes = (await store.read(use.key))?.uses.map((line) => line.outcome)
      expect(outcomes).toEqual(['won', 'busy', 'replay'])
    })

    it('answers a verb that is sent twice as the first time', async () => {
      const { store } = await setUp(createStore)
      const use = requestFor()
      const aborted = tokenOf(await store.claim(use))
      expect(await store.abort(aborted)).toBe(true)
      expect(await store.abort(aborted)).toBe(true)
      expect(await store.complete(aborted, 'late')).toBe(false)
      const completed = tokenOf(await store.claim(use))
      expect(await store.complete(completed, 'result')).toBe(true)
      expect(await store.complete(completed, 'another')).toBe(true)
      expect(await store.abort(completed)).toBe(false)
      expect(await store.renew(completed)).toBe(false)
      expect(await store.claim(use)).toMatchObject({ outcome: 'replay', result: 'result' })
    })

    it('refuses the token of a key it does not know', async () => {
      const { store } = await setUp(createStore)
      expect(await store.complete(`${'0'.repeat(64)}.${randomUUID()}`, 'result')).toBe(false)
      expect(await store.read('0'.repeat(64))).toBeUndefined()
    })
  })
}

async function setUp(createStore: CreateStore) {
  let nowMs = 1_790_000_000_000
  const clock = {
    now: () => nowMs,
    pass: (ms: number) => {
      nowMs += ms
    },
  }
  return { store: await createStore(clock.now), clock }
}

function requestFor(changes: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    key: identityOf('ann', 'createOrder', randomUUID()).key,
    fingerprint: '0'.repeat(64),
    leaseMs: LEASE_MS,
    retentionMs: RETENTION_MS,
    origin: ORIGIN,
    ...changes,
  }
}

/** The token of a claim that must have won. */
export function tokenOf(claim: Claim): string {
  if (claim.outcome === 'won' || claim.outcome === 'takeover') return claim.token
  throw new Error(`The claim should have won, and its outcome is ${claim.outcome}.`)
}
