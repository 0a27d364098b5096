import { randomUUID } from 'node:crypto'
import { metrics } from '@opentelemetry/api'
import { metrics as metricsSdk } from '@opentelemetry/sdk-node'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { getCorrelationId } from '../../src/context/index.ts'
import { runOnce } from '../../src/idempotency/index.ts'
import { migrate, postgresStore } from '../../src/idempotency/stores/postgres.ts'
import { createOutbox, defineTopics, type PayloadSchema } from '../../src/outbox/index.ts'
import { transaction } from '../../src/postgres/transaction.ts'
import { eventually } from '../support/eventually.ts'
import { startPostgres } from '../support/postgres.ts'
import { recordSpans } from '../support/traced-requests.ts'
import { postgresClients } from './postgres-clients.ts'

const server = await startPostgres()
const recorder = recordSpans()
const metricReader = new metricsSdk.PeriodicExportingMetricReader({
  exporter: new metricsSdk.InMemoryMetricExporter(metricsSdk.AggregationTemporality.CUMULATIVE),
  exportIntervalMillis: 2 ** 30,
})
metrics.setGlobalMeterProvider(new metricsSdk.MeterProvider({ readers: [metricReader] }))
const clients = await postgresClients(server?.url, 'outbox')
const { pool, pglite } = clients
beforeAll(async () => {
  await migrate(pglite)
  await pglite.exec('CREATE TABLE effects (order_id text)')
  if (server === undefined) return
  await migrate(pool)
  await pool.query('CREATE TABLE effects (order_id text)')
})
afterAll(async () => {
  await clients.close()
  await server?.stop()
})

/** A schema as a library makes it: an object with one text. */
const charge: PayloadSchema<{ orderId: string }> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate(value) {
      const { orderId } = (value ?? {}) as { orderId?: unknown }
      return typeof orderId === 'string'
        ? { value: { orderId } }
        : { issues: [{ message: 'must be a text', path: ['orderId'] }] }
    },
  },
}
const topics = defineTopics({ 'payment.charge': charge })

describe.each(clients.list)('an outbox on $name', ({ name, db: client, run }) => {
  describe.skipIf(client === undefined)('', () => {
    // Told apart by what they can do, which the types of one stand for.
    const db = client as pg.Pool
    const slug = name.replace(/\W/g, '_').toLowerCase()
    const schema = `pgboss_${slug}`
    const outbox = createOutbox({
      ...{ db, topics, schema, expireInSeconds: 1, retryDelayMaxSeconds: 1 },
      ...(server === undefined ? {} : { connectionString: server.url }),
    })
    const query = (text: string, values: unknown[] = []) => clients.rows(name, text, values)

    beforeAll(() => outbox.start())
    afterAll(() => outbox.stop())

    const queued = async (orderId: string) => {
      const rows = await query(`SELECT id FROM ${schema}.job WHERE data->'payload'->>'orderId' = $1`, [
        orderId,
      ])
      return rows.length
    }

    it('keeps a message with the transaction that sends it, and loses it with one that rolls back', async () => {
      const [kept, lost] = [randomUUID(), randomUUID()]
      await transaction(db, (tx) => outbox.send(tx, 'payment.charge', { orderId: kept }))
      const rolledBack = transaction(db, async (tx) => {
        await outbox.send(tx, 'payment.charge', { orderId: lost })
        throw new Error('no order')
      })
      await expect(rolledBack).rejects.toThrow('no order')
      expect([await queued(kept), await queued(lost)]).toEqual([1, 0])
    })

    it('refuses a payload that its schema refuses, with the path of the field, and an unknown topic', async () => {
      const send = (topic: string, payload: unknown) =>
        transaction(db, (tx) => outbox.send(tx, topic as 'payment.charge', payload as never))
      await expect(send('payment.charge', { orderId: 7 })).rejects.toMatchObject({
        code: 'OUTBOX_PAYLOAD_INVALID',
        message: expect.stringContaining('orderId: must be a text'),
      })
      await expect(send('payment.refund', {})).rejects.toMatchObject({
        code: 'OUTBOX_TOPIC_UNKNOWN',
        message: expect.stringContaining('payment.charge'),
      })
    })

    it('sends what a guarded run sends once, however often that is run', async () => {
      const orderId = randomUUID()
      const store = postgresStore(db)
      const use = { name: 'createOrder', scope: 'user-1', key: randomUUID(), payload: {} }
      const create = (fails: boolean) =>
        runOnce(store, use, async ({ tx }) => {
          const id = await outbox.send(tx as pg.PoolClient, 'payment.charge', { orderId })
          if (fails) throw new Error('after the send')
          return id
        })
      await expect(create(true)).rejects.toThrow('after the send')
      const id = await create(false)
      expect(await create(false)).toBe(id)
      expect(await queued(orderId)).toBe(1)
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    })

    it('takes a key of the caller once', async () => {
      const orderId = randomUUID()
      const send = () =>
        transaction(db, (tx) => outbox.send(tx, 'payment.charge', { orderId }, { key: `charge ${orderId}` }))
      const first = await send()
      expect(first).toBeDefined()
      expect(await send()).toBeUndefined()
      expect(await queued(orderId)).toBe(1)
    })

    it('handles a message under the ID of the request that sent it, in a trace linked to it, after a failure too', async () => {
      const orderId = randomUUID()
      const attempts: { id: string | undefined; attempt: number }[] = []
      await recorder.spansOf(`sender-${slug}`, async () => {
        await transaction(db, (tx) => outbox.send(tx, 'payment.charge', { orderId }))
      })
      const sender = recorder.requestSpan()
      recorder.taken()
      const worker = await outbox.work({
        'payment.charge': async (payload, { attempt, complete }) => {
          if (payload.orderId !== orderId) return
          attempts.push({ id: getCorrelationId(), attempt })
          await complete(async (tx) => {
            await run(tx, `INSERT INTO effects VALUES ('${orderId}')`)
            if (attempt === 1) throw new Error('the bank is closed')
          })
        },
      })
      await eventually(() => expect(attempts).toHaveLength(2), 20_000)
      await worker.stop()
      expect(attempts).toEqual([
        { id: `sender-${slug}`, attempt: 1 },
        { id: `sender-${slug}`, attempt: 2 },
      ])
      // The first attempt wrote, and was rolled back.
      expect(await query('SELECT order_id FROM effects WHERE order_id = $1', [orderId])).toHaveLength(1)
      const processed = recorder
        .taken()
        .filter((span) => span.attributes['outbox.topic'] === 'payment.charge')
        .filter((span) => span.attributes['correlation.id'] === `sender-${slug}`)
      expect(processed.map((span) => span.attributes['outbox.attempt'])).toEqual([1, 2])
      const [first, second] = processed
      const traceIds = new Set([sender, first, second].map((span) => span?.spanContext().traceId))
      expect(traceIds.size).toBe(3)
      expect(first?.links.map(({ context }) => context.traceId)).toEqual([sender.spanContext().traceId])
      expect(second?.links.map(({ context }) => context.traceId)).toEqual([
        sender.spanContext().traceId,
        first?.spanContext().traceId,
      ])
    })

    it('gives up a handler that never returns, and leaves it nothing to write with', async () => {
      await transaction(db, (tx) => outbox.send(tx, 'payment.charge', { orderId: randomUUID() }))
      const given: unknown[] = []
      const signals: AbortSignal[] = []
      const worker = await outbox.work({
        'payment.charge': async (_payload, { complete, signal }) => {
          signals.push(signal)
          await complete(async (tx) => {
            given.push(tx)
            if (given.length === 1) await new Promise(() => {})
          })
        },
      })
      await eventually(() => expect(given).toHaveLength(2), 20_000)
      await worker.stop()
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
      const late = async () => run(given[0], "INSERT INTO effects VALUES ('late')")
      await expect(late()).rejects.toMatchObject({ code: 'OUTBOX_ATTEMPT_OVER' })
      expect(await query("SELECT * FROM effects WHERE order_id = 'late'")).toEqual([])
    })

    it('hands its transaction to what asks for one while it completes', async () => {
      const orderId = randomUUID()
      await transaction(db, (tx) => outbox.send(tx, 'payment.charge', { orderId }))
      const { handled } = await outbox.drain({
        'payment.charge': (payload, { complete }) =>
          complete((tx) =>
            transaction(db, async (inner) => {
              expect(inner).toBe(tx)
              await run(inner, `INSERT INTO effects VALUES ('${payload.orderId}')`)
            }),
          ),
      })
      expect(handled).toBe(1)
      expect(await query('SELECT order_id FROM effects WHERE order_id = $1', [orderId])).toHaveLength(1)
    })
  })
})

describe.skipIf(server === undefined)('an outbox that is worked off', () => {
  const outbox = createOutbox({ db: pool, topics, schema: 'pgboss_drained' })
  const unforgiving = createOutbox({ db: pool, topics, schema: 'pgboss_unforgiving', retryLimit: 0 })
  const all = [outbox, unforgiving]
  beforeAll(async () => {
    for (const each of all) await each.start()
  })
  afterAll(() => Promise.all(all.map((each) => each.stop())))
  const send = (orderId: string, to = outbox) =>
    transaction(pool, (tx) => to.send(tx, 'payment.charge', { orderId }))

  it('by a cron route: as much as is there, each under its own ID, and no more after the deadline', async () => {
    const handled: string[] = []
    await recorder.inRequest('cron-1', () => send('one'))
    await recorder.inRequest('cron-2', () => send('two'))
    const handler = async ({ orderId }: { orderId: string }) => {
      handled.push(`${orderId} ${getCorrelationId()}`)
    }
    expect(await outbox.drain({ 'payment.charge': handler }, { deadlineMs: 0 })).toEqual({
      handled: 0,
      failed: 0,
      isEmpty: false,
    })
    expect(await outbox.drain({ 'payment.charge': handler })).toEqual({
      handled: 2,
      failed: 0,
      isEmpty: true,
    })
    expect(handled).toEqual(['one cron-1', 'two cron-2'])
  })

  it('puts a message that always fails with the dead letters, with the reason', async () => {
    const orderId = randomUUID()
    await send(orderId, unforgiving)
    const failing = async () => {
      throw new Error('no such account')
    }
    const worker = await unforgiving.work({ 'payment.charge': failing })
    const dead = async () => {
      const { rows } = await pool.query(
        "SELECT data, source_output FROM pgboss_unforgiving.job WHERE name = 'payment.charge.dead' AND data->'payload'->>'orderId' = $1",
        [orderId],
      )
      return rows
    }
    await eventually(async () => expect(await dead()).toHaveLength(1), 20_000)
    await worker.stop()
    expect((await dead())[0].source_output).toMatchObject({ message: 'no such account' })
  })

  it('rolls back what a handler wrote whose message was taken away', async () => {
    const orderId = randomUUID()
    await send(orderId)
    const effect = `INSERT INTO effects VALUES ('${orderId}')`
    recorder.taken()
    const { handled, failed } = await outbox.drain({
      'payment.charge': async (_payload, { complete, messageId }) => {
        // As an operator does, or the queue itself when the time is over.
        await pool.query('DELETE FROM pgboss_drained.job WHERE id = $1', [messageId])
        await complete((tx) => tx.query(effect))
      },
    })
    // Another has it, or nobody: it is no failure of this one.
    expect({ handled, failed }).toEqual({ handled: 0, failed: 0 })
    const { rows } = await pool.query('SELECT * FROM effects WHERE order_id = $1', [orderId])
    expect(rows).toEqual([])
    const [span] = recorder.taken().filter(({ name }) => name === 'process payment.charge')
    expect(span?.events[0]?.attributes?.['exception.message']).toContain('taken away from this attempt')
  })

  it('opens no transaction while a handler calls others, and runs what it writes again after a conflict', async () => {
    await send(randomUUID())
    const tries: number[] = []
    const { handled } = await outbox.drain({
      'payment.charge': async ({ orderId }, { complete }) => {
        const open = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'idle in transaction'"
        expect((await pool.query(open)).rows[0].n).toBe(0)
        await complete(async (tx) => {
          tries.push(tries.length + 1)
          await tx.query('INSERT INTO effects VALUES ($1)', [orderId])
          if (tries.length === 1) throw Object.assign(new Error('could not serialize'), { code: '40001' })
        })
      },
    })
    expect({ handled, tries }).toEqual({ handled: 1, tries: [1, 2] })
  })

  it('keeps to what is done: a handler that fails afterwards is not run again, and cannot complete twice', async () => {
    await send(randomUUID())
    const refused: unknown[] = []
    const result = await outbox.drain({
      'payment.charge': async (_payload, { complete }) => {
        await complete(async () => {})
        await complete(async () => {}).catch((error: unknown) => refused.push(error))
        throw new Error('too late')
      },
    })
    expect(result).toEqual({ handled: 1, failed: 0, isEmpty: true })
    expect(refused).toMatchObject([{ code: 'OUTBOX_ATTEMPT_OVER' }])
  })

  it('does not take for done what a handler failed to write, whatever it makes of that', async () => {
    await send(randomUUID())
    const result = await outbox.drain({
      'payment.charge': async (_payload, { complete }) => {
        await complete((tx) => tx.query('SELECT 1/0')).catch(() => {})
      },
    })
    expect(result).toMatchObject({ handled: 0, failed: 1 })
    await pool.query('DELETE FROM pgboss_drained.job')
  })

  it('waits any time up to the limit before another try, so that many do not come back at once', async () => {
    await Promise.all(Array.from({ length: 40 }, () => send(randomUUID())))
    const { failed } = await outbox.drain({
      'payment.charge': async () => {
        throw new Error('all at once')
      },
    })
    expect(failed).toBeGreaterThanOrEqual(40)
    const { rows } = await pool.query<{ delay: number }>(
      `SELECT extract(epoch FROM start_after - (data->'failed'->0->>'at')::timestamptz)::float8 AS delay
       FROM pgboss_drained.job WHERE state = 'retry' AND jsonb_array_length(data->'failed') = 1`,
    )
    const delays = rows.map(({ delay }) => delay)
    expect(Math.min(...delays)).toBeLessThan(0.9)
    expect(Math.max(...delays)).toBeGreaterThan(1.1)
    expect(Math.max(...delays)).toBeLessThan(2.5)
    await pool.query('DELETE FROM pgboss_drained.job')
  })

  it('takes as many in one go as it has hands, and leaves no span of a look that found nothing', async () => {
    const underWay = new Set<string>()
    let most = 0
    for (let message = 0; message < 12; message += 1) await send(String(message))
    recorder.taken()
    let handled = 0
    const worker = await outbox.work(
      {
        'payment.charge': async ({ orderId }) => {
          underWay.add(orderId)
          most = Math.max(most, underWay.size)
          await eventually(() => expect(most).toBe(4))
          underWay.delete(orderId)
          handled += 1
        },
      },
      { concurrency: 4, pollingIntervalSeconds: 0.02 },
    )
    await eventually(() => expect(handled).toBe(12))
    await worker.stop()
    expect(most).toBe(4)
    const names = new Set(recorder.taken().map(({ name }) => name))
    expect(names).toEqual(new Set(['process payment.charge', 'complete payment.charge']))
  })

  it('tells how much waits, for how long, and what failed', async () => {
    for (const orderId of ['first', 'second', 'third']) await send(orderId, unforgiving)
    const later = { orderId: 'later' }
    await transaction(pool, (tx) => unforgiving.send(tx, 'payment.charge', later, { startAfter: 3600 }))
    let close = () => {}
    const closed = new Promise<void>((resolve) => {
      close = resolve
    })
    const worker = await unforgiving.work({
      'payment.charge': async () => {
        await closed
        throw new Error('no such account')
      },
    })
    await eventually(async () =>
      expect(await gauges()).toMatchObject({
        ready: 2,
        deferred: 1,
        active: 1,
        oldestAge: expect.any(Number),
      }),
    )
    expect((await gauges()).oldestAge).toBeGreaterThan(0)
    close()
    await eventually(async () =>
      expect(await gauges()).toMatchObject({ ready: 0, deferred: 1, active: 0, oldestAge: 0 }),
    )
    expect((await gauges()).dead).toBeGreaterThanOrEqual(3)
    await worker.stop()
    const counted = (await collected()).filter(
      ({ name, attributes }) => name === 'outbox.attempts' && attributes['outbox.outcome'] === 'dead',
    )
    expect(counted[0]?.value).toBeGreaterThanOrEqual(3)
  })
})

/** The gauge of depth, by state, and the age of the oldest. */
async function gauges(): Promise<Record<string, number>> {
  const values: Record<string, number> = {}
  for (const { name, attributes, value } of await collected()) {
    if (name === 'outbox.messages') values[String(attributes['outbox.state'])] = value as number
    if (name === 'outbox.oldest.age') values.oldestAge = value as number
  }
  return values
}

async function collected() {
  const { resourceMetrics } = await metricReader.collect()
  return resourceMetrics.scopeMetrics.flatMap(({ metrics: list }) =>
    list.flatMap(({ descriptor, dataPoints }) =>
      dataPoints.map(({ attributes, value }) => ({ name: descriptor.name, attributes, value })),
    ),
  )
}

describe('defineTopics', () => {
  it('takes the schemas of a library, hands on what they make of a payload, and names the field they refuse', async () => {
    const order = z.object({
      lines: z.array(z.object({ cents: z.number().int() })),
      note: z.string().default('none'),
    })
    const outbox = createOutbox({ db: pglite, topics: defineTopics({ order }), schema: 'pgboss_zod' })
    await outbox.start()
    const send = (payload: z.input<typeof order>) =>
      transaction(pglite, (tx) => outbox.send(tx, 'order', payload))
    await send({ lines: [{ cents: 100 }] })
    await expect(send({ lines: [{ cents: 1 }, { cents: 1.5 }] })).rejects.toThrow(/lines\.1\.cents: /)
    const handled: unknown[] = []
    await outbox.drain({ order: async (payload) => handled.push(payload) })
    expect(handled).toEqual([{ lines: [{ cents: 100 }], note: 'none' }])
    await outbox.stop()
  })

  it('refuses a name that is no queue, and a schema that is none', () => {
    expect(() => defineTopics({ 'a/b': charge })).toThrow(TypeError)
    expect(() => defineTopics({ a: {} as never })).toThrow(/Standard Schema/)
  })

  it('says which package is the queue, and is no topic of its own prototype', async () => {
    const outbox = createOutbox({ db: pglite, topics })
    const failed = outbox.send({} as never, 'toString' as never, {} as never)
    await expect(failed).rejects.toMatchObject({ code: 'OUTBOX_TOPIC_UNKNOWN' })
    await expect(outbox.send({} as never, 'payment.charge', { orderId: 'a' })).rejects.toMatchObject({
      code: 'OUTBOX_NOT_STARTED',
    })
  })
})
