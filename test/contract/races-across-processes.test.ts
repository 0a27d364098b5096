/** `raceStore`: two processes of the built package, a recipe written by hand, and one real Redis. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { hashKey } from '../../src/telemetry/key-hash.ts'
import { eventually } from '../support/eventually.ts'
import { startRedis } from '../support/redis.ts'
import { startUpstashBridge } from '../support/upstash-bridge.ts'
import type { FromProcess, SetUp, ShownRequest, ToProcess } from './race-process.ts'

const redis = await startRedis()
const bridge = redis && (await startUpstashBridge(redis.url))
const client = new Redis(redis?.url ?? '', { lazyConnect: true })
afterAll(async () => {
  client.disconnect()
  await bridge?.stop()
  await redis?.stop()
})

const started: ChildProcess[] = []
afterEach(() => {
  for (const child of started.splice(0)) child.kill()
})

describe.skipIf(redis === undefined)('a race of a hand-written recipe in two processes', () => {
  it.each(['ioredis', 'node-redis', '@upstash/redis'] as const)(
    'is flagged on both requests, linked to each other, and named in a warning of each, through %s',
    async (raceStore) => {
      const [one, other] = await Promise.all([startProcess(raceStore), startProcess(raceStore)])
      const key = newKey()
      const [first, second] = [one.order('first', key), other.order('second', key)]
      await Promise.all([first.reached('looked'), second.reached('looked')])
      await eventually(async () => expect(await client.llen(listOf(key))).toBe(2))
      first.goOn()
      second.goOn()
      await Promise.all([first.reached('written'), second.reached('written')])
      await eventually(async () => {
        for (const order of [first, second])
          expect((await order.shown()).attributes['idempotency.race']).toBe(true)
      })
      expect(await Promise.all([first.finish(), second.finish()])).toEqual(['done', 'done'])

      const [firstShown, secondShown] = [await first.shown(), await second.shown()]
      for (const [id, shown, twin] of [
        ['second', firstShown, secondShown],
        ['first', secondShown, firstShown],
      ] as const) {
        expect(shown.links).toEqual([
          {
            traceId: twin.traceId,
            spanId: twin.spanId,
            attributes: { 'idempotency.race': true, 'correlation.id': id },
          },
        ])
        expect(shown.events).toEqual(['idempotency.race'])
      }
      expect(await one.warnings(1)).toMatchObject([
        { correlation_id: 'first', other_correlation_id: 'second', idempotency: { race: true } },
      ])
      expect(await other.warnings(1)).toMatchObject([
        { correlation_id: 'second', other_correlation_id: 'first', idempotency: { race: true } },
      ])
      // What the store is sent is no command of a request.
      for (const process of [one, other]) {
        expect(await process.otherSpans()).toEqual(['GET', 'SET'])
        await eventually(() =>
          expect(process.lines).toContainEqual(
            expect.objectContaining({ msg: 'request completed', kv_calls: 2 }),
          ),
        )
      }
    },
  )

  it('is not seen without a raceStore', async () => {
    const [one, other] = await Promise.all([startProcess('none'), startProcess('none')])
    const key = newKey()
    const orders = [one.order('first', key), other.order('second', key)]
    await Promise.all(orders.map((order) => order.reached('looked')))
    await Promise.all(orders.map((order) => order.finish()))
    for (const order of orders) expect((await order.shown()).events).toEqual([])
    expect(await client.exists(listOf(key))).toBe(0)
  })

  it('is none where one wrote before the other looked', async () => {
    const [one, other] = await Promise.all([startProcess('ioredis'), startProcess('ioredis')])
    const key = newKey()
    const first = one.order('first', key)
    await first.finish()
    await client.del(key)
    await eventually(async () => expect(await client.lindex(listOf(key), 0)).toMatch(/ first \d{13}$/))
    const second = other.order('second', key)
    await second.finish()
    for (const order of [first, second])
      expect((await order.shown()).attributes).not.toHaveProperty('idempotency.race')
  })

  it('is none with a request that ended without a write', async () => {
    const [one, other] = await Promise.all([startProcess('ioredis'), startProcess('ioredis')])
    const key = newKey()
    const first = one.order('first', key, { writes: false })
    await first.reached('looked')
    await eventually(async () => expect(await client.llen(listOf(key))).toBe(1))
    await first.finish()
    // Well before the list would expire.
    await eventually(async () => expect(await client.llen(listOf(key))).toBe(0), 5_000)
    const second = other.order('second', key)
    await second.finish()
    expect((await second.shown()).attributes).not.toHaveProperty('idempotency.race')
    expect(await other.warnings(0)).toEqual([])
  })

  it('is none within one process by way of the store: there it is flagged once', async () => {
    const one = await startProcess('ioredis')
    const key = newKey()
    const [first, second] = [one.order('first', key), one.order('second', key)]
    await Promise.all([first.reached('looked'), second.reached('looked')])
    await eventually(async () => expect(await client.llen(listOf(key))).toBe(2))
    await Promise.all([first.finish(), second.finish()])
    await eventually(async () => {
      for (const entry of await client.lrange(listOf(key), 0, -1)) expect(entry).toMatch(/ \d{13}$/)
    })
    for (const order of [first, second]) expect((await order.shown()).links).toHaveLength(1)
    expect(await one.warnings(1)).toHaveLength(1)
  })

  it('leaves a few short entries under a hash, for seconds', async () => {
    const one = await startProcess('ioredis')
    const key = newKey()
    await client.rpush(listOf(key), ...Array.from({ length: 100 }, () => 'x'))
    const order = one.order('first', key)
    await order.reached('looked')
    const entries = await eventually(async () => {
      const found = await client.lrange(listOf(key), 0, -1)
      expect(found).toHaveLength(32)
      return found
    })
    const { traceId, spanId } = await order.shown()
    expect(entries.at(-1)).toMatch(new RegExp(`^[0-9a-f]{32} ${traceId} ${spanId} \\d{13} first$`))
    expect(await client.pttl(listOf(key))).toBeGreaterThan(0)
    expect(await client.pttl(listOf(key))).toBeLessThanOrEqual(10_000)
    await order.finish()
  })

  it('does not believe entries that are malformed or old', async () => {
    const one = await startProcess('ioredis')
    const key = newKey()
    const [token, traceId, spanId] = ['a'.repeat(32), 'b'.repeat(32), 'c'.repeat(16)]
    await client.rpush(
      listOf(key),
      '',
      '{"correlationId":"x"}',
      `${token} ${traceId} ${spanId} ${Date.now()} <script>`,
      `${token} ${traceId} ${spanId} ${Date.now()} two words`,
      `${token} ${traceId} ${spanId} ${Date.now()} line\nbreak`,
      `${token} ${traceId} ${spanId} soon other`,
      `${token} ${traceId} ${spanId} ${Date.now() - 61_000} old`,
      `${token} ${traceId} ${spanId} ${Date.now()} written-before ${Date.now() - 1000}`,
      `${token} ${traceId.toUpperCase()} ${spanId} ${Date.now()} other`,
      // Believed, and linked to nothing: it has no span.
      `${token} ${traceId} ${'0'.repeat(16)} ${Date.now()} spanless`,
    )
    const order = one.order('first', key)
    await order.reached('looked')
    expect(await one.warnings(1)).toMatchObject([{ other_correlation_id: 'spanless' }])
    await order.finish()
    const { attributes, links, events } = await order.shown()
    expect(attributes['idempotency.race']).toBe(true)
    expect([links, events]).toEqual([[], ['idempotency.race']])
  })

  it('is seen by a request whose entry comes late, after the other wrote', async () => {
    const one = await startProcess('ioredis')
    const key = newKey()
    const [token, traceId, spanId] = ['a'.repeat(32), 'b'.repeat(32), 'c'.repeat(16)]
    // Written after this request looks, as far as clocks tell.
    await client.rpush(
      listOf(key),
      `${token} ${traceId} ${spanId} ${Date.now()} other ${Date.now() + 60_000}`,
    )
    const order = one.order('first', key)
    await order.reached('looked')
    expect(await one.warnings(1)).toMatchObject([{ other_correlation_id: 'other' }])
    await order.finish()
    expect((await order.shown()).links).toMatchObject([{ traceId, spanId }])
  })

  it('changes nothing for a request where the store is away, and says so once', async () => {
    const one = await startProcess('ioredis, away')
    for (const id of ['first', 'second']) {
      const order = one.order(id, newKey())
      expect(await order.finish()).toBe('done')
      expect((await order.shown()).events).toEqual([])
    }
    const failures = await eventually(() => {
      const found = one.lines.filter(({ msg }) => /race store failed/.test(String(msg)))
      expect(found).not.toEqual([])
      return found
    })
    expect(failures).toHaveLength(1)
    expect(await one.warnings(0)).toEqual([])
    expect(one.isRunning()).toBe(true)
  })
})

const newKey = () => `idempotency:${randomUUID()}`
const listOf = (key: string) => `throughline:misses:${hashKey(key)}`

/** A process of the app, as the test talks to it. */
async function startProcess(raceStore: SetUp['raceStore']) {
  const setUp: SetUp = {
    redisUrl: redis?.url ?? '',
    upstash: { url: bridge?.url ?? '', token: bridge?.token ?? '' },
    raceStore,
  }
  const script = fileURLToPath(new URL('race-process.ts', import.meta.url))
  const child = spawn(process.execPath, [script, JSON.stringify(setUp)], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    env: { ...process.env, NODE_OPTIONS: '', OTEL_TRACES_EXPORTER: 'none' },
  })
  started.push(child)
  const lines: Record<string, unknown>[] = []
  createInterface({ input: child.stdout as NonNullable<typeof child.stdout> }).on('line', (line) => {
    if (line.startsWith('{')) lines.push(JSON.parse(line))
  })
  const steps: string[] = []
  child.on('message', (message: FromProcess) => {
    if ('step' in message) steps.push(`${message.id} ${message.step}`)
  })
  const tell = (message: ToProcess) => void child.send(message)
  const report = async () => {
    for (;;) {
      tell('report')
      const [answer] = (await once(child, 'message')) as [FromProcess]
      if ('requests' in answer) return answer
    }
  }
  const [{ url }] = (await once(child, 'message')) as [{ url: string }]

  return {
    lines,
    isRunning: () => child.exitCode === null,
    otherSpans: async () => (await report()).otherSpans,
    /** The warnings of a race, when there are that many. */
    warnings: (count: number) =>
      eventually(() => {
        const found = lines.filter(({ msg }) => /missed the same idempotency key/.test(String(msg)))
        expect(found.length).toBeGreaterThanOrEqual(count)
        return found
      }),
    order(id: string, key: string, { writes = true } = {}) {
      const query = new URLSearchParams({ key, ...(writes ? { writes: '' } : {}) })
      const answer = fetch(`${url}/order?${query}`, { headers: { 'x-correlation-id': id } }).then(
        (response) => response.text(),
      )
      const reached = (step: 'looked' | 'written') =>
        eventually(() => expect(steps).toContain(`${id} ${step}`))
      const goOn = () => tell({ goOn: id })
      return {
        reached,
        goOn,
        async finish(): Promise<string> {
          await reached('looked')
          if (!steps.includes(`${id} written`)) goOn()
          await reached('written')
          goOn()
          return answer
        },
        shown: async (): Promise<ShownRequest> => {
          const shown = (await report()).requests[id]
          if (shown === undefined) throw new Error(`There is no request ${id}.`)
          return shown
        },
      }
    },
  }
}
