/** Order per key: messages that bear one key are handled in the order their transactions commit. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { PGlite } from '@electric-sql/pglite'
import pg from 'pg'
import { afterAll, describe, expect, it } from 'vitest'
import {
  createOutbox,
  defineTopics,
  type Handler,
  type OrderPolicy,
  openMessages,
} from '../../src/outbox/index.ts'
import { transaction } from '../../src/postgres/transaction.ts'
import { eventually } from '../support/eventually.ts'
import { startPostgres } from '../support/postgres.ts'
import { anything } from './outbox-topics.ts'

const server = await startPostgres()
const pool = new pg.Pool({ connectionString: server?.url, max: 12 })
const pglite = new PGlite()
const databases = [
  { name: 'Postgres', db: server === undefined ? undefined : pool },
  { name: 'PGlite', db: pglite as unknown as pg.Pool },
]
afterAll(async () => {
  await pool.end()
  await pglite.close()
  await server?.stop()
})

interface Step {
  key: string
  step: number
}

describe.each(databases)('an outbox that keeps an order, on $name', ({ db: given }) => {
  describe.skipIf(given === undefined)('', () => {
    const db = given as pg.Pool
    const ends: (() => Promise<void>)[] = []
    afterAll(() => Promise.all(ends.map((end) => end())))

    /** An outbox of its own tables, one topic, and no patience. */
    async function outboxThat(policy: OrderPolicy) {
      const schema = `order_${policy}_${randomUUID().slice(0, 8)}`
      const outbox = createOutbox({
        ...{ db, schema, order: { step: policy }, retryLimit: 1, retryDelayMaxSeconds: 1 },
        topics: defineTopics({ step: anything<Step>() }),
      })
      await outbox.start()
      const messages = await openMessages({ db, schema })
      ends.push(
        () => outbox.stop(),
        () => messages.close(),
      )
      return { ...outbox, schema, messages }
    }
    type OrderedOutbox = Awaited<ReturnType<typeof outboxThat>>
    const send = (outbox: OrderedOutbox, key: string, step: number) =>
      transaction(db, (tx) => outbox.send(tx, 'step', { key, step }, { orderKey: key }))
    const work = (outbox: OrderedOutbox, handler: Handler<Step, unknown>) =>
      outbox.work({ step: handler }, { concurrency: 4, pollingIntervalSeconds: 0.05 })

    it('handles messages of one key one after the other, and of several at once', async () => {
      const outbox = await outboxThat('block')
      const keys = ['a', 'b', 'c']
      for (let step = 0; step < 5; step += 1) for (const key of keys) await send(outbox, key, step)
      const handled = new Map<string, number[]>(keys.map((key) => [key, []]))
      const underWay = new Set<string>()
      let mostUnderWay = 0
      const worker = await work(outbox, async ({ key, step }) => {
        expect(underWay).not.toContain(key)
        underWay.add(key)
        mostUnderWay = Math.max(mostUnderWay, underWay.size)
        await sleep(5)
        underWay.delete(key)
        handled.get(key)?.push(step)
      })
      await eventually(() => expect([...handled.values()].map((steps) => steps.length)).toEqual([5, 5, 5]))
      await worker.stop()
      expect([...handled.values()]).toEqual(keys.map(() => [0, 1, 2, 3, 4]))
      expect(mostUnderWay).toBe(3)
    })

    it('keeps the order of several in one transaction', async () => {
      const outbox = await outboxThat('block')
      const steps = Array.from({ length: 20 }, (_, step) => step)
      await transaction(db, async (tx) => {
        for (const step of steps) await outbox.send(tx, 'step', { key: 'a', step }, { orderKey: 'a' })
      })
      const handled: number[] = []
      const worker = await work(outbox, async ({ step }) => {
        handled.push(step)
      })
      await eventually(() => expect(handled).toHaveLength(20))
      await worker.stop()
      expect(handled).toEqual(steps)
    })

    // PGlite has one connection: there transactions follow one another.
    if (given === pool)
      it('keeps the order in which transactions commit, not that in which they began', async () => {
        const outbox = await outboxThat('block')
        const [early, late] = [await db.connect(), await db.connect()]
        await early.query('BEGIN')
        await late.query('BEGIN')
        await outbox.send(late, 'step', { key: 'a', step: 1 }, { orderKey: 'a' })
        // Waits for the key.
        const second = outbox.send(early, 'step', { key: 'a', step: 2 }, { orderKey: 'a' })
        await late.query('COMMIT')
        await second
        await early.query('COMMIT')
        early.release()
        late.release()
        const handled: number[] = []
        const worker = await work(outbox, async ({ step }) => {
          handled.push(step)
        })
        await eventually(() => expect(handled).toHaveLength(2))
        await worker.stop()
        expect(handled).toEqual([1, 2])
      })

    it.each(['block', 'skip'] as const)(
      'tries a failing head again before the next, under %s',
      async (policy) => {
        const outbox = await outboxThat(policy)
        for (const step of [1, 2]) await send(outbox, 'a', step)
        const handled: string[] = []
        const worker = await work(outbox, async ({ step }, { attempt }) => {
          handled.push(`${step} attempt ${attempt}`)
          if (step === 1 && attempt === 1) throw new Error('not yet')
        })
        await eventually(() => expect(handled).toHaveLength(3))
        await worker.stop()
        expect(handled).toEqual(['1 attempt 1', '1 attempt 2', '2 attempt 1'])
      },
    )

    it('holds what is behind a head that failed for good, under block, and lets other keys pass', async () => {
      const outbox = await outboxThat('block')
      await send(outbox, 'a', 1)
      await send(outbox, 'a', 2)
      await send(outbox, 'b', 1)
      const handled: string[] = []
      let isMended = false
      const worker = await work(outbox, async ({ key, step }) => {
        if (key === 'a' && step === 1 && !isMended) {
          handled.push('failed')
          throw new Error('poison')
        }
        handled.push(`${key}${step}`)
      })
      await eventually(() => expect(handled.filter((entry) => entry === 'failed')).toHaveLength(2))
      await send(outbox, 'b', 2)
      await eventually(() => expect(handled).toContain('b2'))
      expect(handled).not.toContain('a2')
      // As `throughline outbox redrive` does.
      isMended = true
      const [message] = await outbox.messages.list({ states: ['dead'] })
      await outbox.messages.redrive([message?.id ?? ''])
      await eventually(() => expect(handled).toContain('a2'))
      await worker.stop()
      expect(handled.filter((entry) => entry.startsWith('a'))).toEqual(['a1', 'a2'])
    })

    it('takes the next when a head failed for good, under skip, and puts it with the dead letters', async () => {
      const outbox = await outboxThat('skip')
      for (const step of [1, 2, 3]) await send(outbox, 'a', step)
      const handled: number[] = []
      const worker = await work(outbox, async ({ step }) => {
        if (step === 1) throw new Error('poison')
        handled.push(step)
      })
      await eventually(() => expect(handled).toEqual([2, 3]))
      await worker.stop()
      const dead = await outbox.messages.list({ states: ['dead'] })
      expect(dead.map(({ payload }) => payload)).toEqual([{ key: 'a', step: 1 }])
    })

    it('frees a key whose head was failed by the queue itself, as after a kill', async () => {
      const outbox = await outboxThat('skip')
      for (const step of [1, 2]) await send(outbox, 'a', step)
      const [, head] = await outbox.messages.list({})
      await db.query(`UPDATE ${outbox.schema}.job SET state = 'failed' WHERE id = $1`, [head?.id])
      const handled: number[] = []
      const worker = await work(outbox, async ({ step }) => {
        handled.push(step)
      })
      await eventually(() => expect(handled).toEqual([2]))
      await worker.stop()
    })
  })
})

describe('an outbox that is told of an order', () => {
  const topics = defineTopics({ step: anything(), other: anything() })

  it('refuses a message without the key, and a key where no order is kept', async () => {
    const outbox = createOutbox({ db: pglite, topics, order: { step: 'block' }, schema: 'order_keys' })
    await outbox.start()
    const later = transaction(pglite, (tx) => outbox.send(tx, 'step', {}, { orderKey: 'a', startAfter: 5 }))
    await expect(later).rejects.toThrow(/"startAfter" cannot be kept/)
    const send = (topic: 'step' | 'other', orderKey?: unknown) =>
      transaction(pglite, (tx) =>
        outbox.send(tx, topic, {}, orderKey === undefined ? {} : { orderKey: orderKey as string }),
      )
    await expect(send('step')).rejects.toMatchObject({ code: 'OUTBOX_ORDER_KEY_MISSING' })
    await expect(send('other', 'a')).rejects.toThrow(/keeps no order/)
    await expect(send('step', 7)).rejects.toThrow(/string of 1 to 255/)
    await expect(send('step', 'a'.repeat(256))).rejects.toThrow(/one of 256/)
    await outbox.stop()
  })

  it('refuses a topic that it has not, another policy, and a queue that was made with another', async () => {
    const create = (order: object) => createOutbox({ db: pglite, topics, order, schema: 'order_changed' })
    expect(() => create({ nothing: 'block' })).toThrow(/none of its topics/)
    expect(() => create({ step: 'maybe' })).toThrow(/'block' or 'skip'/)
    const first = create({})
    await first.start()
    await first.stop()
    await expect(create({ step: 'skip' }).start()).rejects.toMatchObject({ code: 'OUTBOX_ORDER_CHANGED' })
    const blocking = createOutbox({ db: pglite, topics, order: { step: 'block' }, schema: 'order_policy' })
    await blocking.start()
    await blocking.stop()
    const skipping = createOutbox({ db: pglite, topics, order: { step: 'skip' }, schema: 'order_policy' })
    await expect(skipping.start()).rejects.toMatchObject({ code: 'OUTBOX_ORDER_CHANGED' })
  })
})
