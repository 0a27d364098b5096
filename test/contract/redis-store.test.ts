import { randomUUID } from 'node:crypto'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { IdempotencyStore } from '../../src/idempotency/contract.ts'
import { runOnce } from '../../src/idempotency/run-once.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { type RedisClient, redisStore } from '../../src/idempotency/stores/redis.ts'
import { startRedis } from '../support/redis.ts'
import { describeStore, tokenOf } from './idempotency-store.ts'
import { runCommands, someCommands } from './store-commands.ts'

const server = await startRedis()
const url = server?.url ?? 'redis://127.0.0.1:1'
const ioredis = new Redis(url, { lazyConnect: true })
const nodeRedis = createClient({ url })

beforeAll(async () => {
  if (server !== undefined) await Promise.all([ioredis.connect(), nodeRedis.connect()])
})
afterAll(async () => {
  ioredis.disconnect()
  if (nodeRedis.isOpen) nodeRedis.destroy()
  await server?.stop()
})

const prefix = () => `test:${randomUUID()}:`
const use = { key: 'key', fingerprint: 'f', leaseMs: 60_000, retentionMs: 60_000 }

describe.skipIf(server === undefined).each<[string, RedisClient]>([
  ['redisStore on ioredis', ioredis],
  ['redisStore on node-redis', nodeRedis],
])('%s', (name, client) => {
  describeStore(name, (now) => redisStore(client, { onUnknown: 'retain', prefix: prefix(), now }))

  it('takes one command for a claim, for each verb, and for a replay, as the server counts', async () => {
    const keys = prefix()
    const store = redisStore(client, { onUnknown: 'retain', prefix: keys })
    // Loads the scripts.
    await store.complete(tokenOf(await store.claim(use)), 'result')
    const monitored = await monitor(keys)

    const another = { ...use, key: 'another' }
    const token = tokenOf(await store.claim(another))
    expect(await monitored()).toEqual(['evalsha'])
    await store.markEffects(token)
    await store.renew(token)
    expect(await monitored()).toEqual(['evalsha', 'evalsha'])
    await store.complete(token, 'result')
    expect(await monitored()).toEqual(['evalsha'])
    expect((await store.claim(another)).outcome).toBe('replay')
    expect(await monitored()).toEqual(['evalsha'])
  })

  it('takes two commands for a whole run, and one for its replay', async () => {
    const keys = prefix()
    const store = redisStore(client, { onUnknown: 'retain', prefix: keys })
    const options = { name: 'createOrder', scope: 'ann', key: randomUUID(), payload: {} }
    const monitored = await monitor(keys)
    await runOnce(store, options, () => 'done')
    expect(await monitored()).toHaveLength(2)
    expect(await runOnce(store, options, () => 'again')).toBe('done')
    expect(await monitored()).toHaveLength(1)
  })

  it('names the failure of a command without what was to be stored', async () => {
    const keys = prefix()
    const store = redisStore(client, { onUnknown: 'retain', prefix: keys })
    await ioredis.lpush(`${keys}{key}`, 'not a text')
    const error = await store.complete('key.token', 'SECRET').catch((thrown: unknown) => thrown)
    expect(String(error)).toMatch(/WRONGTYPE/)
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('SECRET')
  })

  it('loads its scripts again when the server has lost them', async () => {
    const store = redisStore(client, { onUnknown: 'retain', prefix: prefix() })
    await ioredis.script('FLUSH')
    const token = tokenOf(await store.claim(use))
    await ioredis.script('FLUSH')
    expect(await store.complete(token, 'result')).toBe(true)
  })

  it("ends leases and retention by the server's clock, and leaves nothing behind", async () => {
    const keys = prefix()
    const store = redisStore(client, { onUnknown: 'retain', prefix: keys })
    const short = { ...use, leaseMs: 40, retentionMs: 200 }
    await store.claim(short)
    const takeover = await vi.waitFor(
      async () => {
        const claim = await store.claim({ ...short, isRepeat: true })
        expect(claim.outcome).toBe('takeover')
        return claim
      },
      { interval: 5, timeout: 5_000 },
    )
    await store.complete(tokenOf(takeover), 'result')
    expect((await store.claim(short)).outcome).toBe('replay')
    await vi.waitFor(async () => expect(await store.read(use.key)).toBeUndefined(), {
      interval: 10,
      timeout: 5_000,
    })
    await vi.waitFor(async () => expect(await ioredis.keys(`${keys}*`)).toEqual([]), {
      interval: 10,
      timeout: 5_000,
    })
  })

  it('answers a claim that the client sends twice as the first time', async () => {
    const store = redisStore(sendTwice(client), { onUnknown: 'retain', prefix: prefix() })
    expect(await store.claim(use)).toMatchObject({ outcome: 'won', fence: 1, hits: 0 })
  })

  it('runs once for 50 callers that wait in two processes', async () => {
    const keys = prefix()
    const stores = [
      redisStore(client, { onUnknown: 'retain', prefix: keys }),
      redisStore(client, { onUnknown: 'retain', prefix: keys }),
    ] as const
    const options = {
      name: 'createOrder',
      scope: 'ann',
      key: 'key',
      payload: {},
      inFlight: { waitMs: 10_000 },
    }
    let runs = 0
    const orders = await Promise.all(
      Array.from({ length: 50 }, (_, caller) =>
        runOnce(stores[caller % 2] ?? stores[0], options, async () => {
          await ioredis.ping()
          runs += 1
          return { order: runs, at: new Date(0) }
        }),
      ),
    )
    expect(runs).toBe(1)
    expect(orders).toEqual(Array(50).fill({ order: 1, at: new Date(0) }))
  })

  it.each(['retain', 'rerun'] as const)(
    'does what the pure machine does, whatever is done to it: %s',
    async (onUnknown) => {
      await fc.assert(
        fc.asyncProperty(someCommands, async (commands) => {
          const log = await runCommands(
            (now) => redisStore(client, { onUnknown, prefix: prefix(), now }),
            commands,
          )
          const expected = await runCommands(
            (now) => memoryStore({ name: randomUUID(), onUnknown, now }),
            commands,
          )
          expect(log).toEqual(expected)
        }),
        { numRuns: 100 },
      )
    },
  )
})

describe('redisStore', () => {
  it('refuses what is not a client of Redis', () => {
    const client = {} as RedisClient
    expect(() => redisStore(client, { onUnknown: 'retain' })).toThrow(
      /"client" must be a client of ioredis \(>=5\) or node-redis \(>=4\)/,
    )
  })

  it.skipIf(server === undefined)('rejects when the server does not answer', async () => {
    const gone = new Redis('redis://127.0.0.1:1', { maxRetriesPerRequest: 0, retryStrategy: () => null })
    gone.on('error', () => {})
    const store: IdempotencyStore = redisStore(gone, { onUnknown: 'retain' })
    await expect(store.claim(use)).rejects.toThrow()
  })
})

/** MONITOR: gives the commands that clients sent for the keys since it was last asked. */
async function monitor(keys: string): Promise<() => Promise<string[]>> {
  const watcher = await new Redis(url).monitor()
  onTestFinished(() => watcher.disconnect())
  const commands: string[] = []
  const marks = new Set<string>()
  watcher.on('monitor', (_time: string, args: string[], source: string) => {
    if (args[0]?.toLowerCase() === 'echo') marks.add(args[1] ?? '')
    // A script's own commands are the server's.
    else if (source !== 'lua' && args.some((arg) => arg.startsWith(keys)))
      commands.push(args[0]?.toLowerCase() ?? '')
  })
  return async () => {
    // What was sent before the mark is told before it.
    const mark = randomUUID()
    await ioredis.echo(mark)
    await vi.waitFor(() => expect(marks.has(mark)).toBe(true), { interval: 1 })
    return commands.splice(0)
  }
}

/** The client as it is after a reconnect: what was not answered is sent again. */
function sendTwice(client: RedisClient): RedisClient {
  return new Proxy(client, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      return async (...args: unknown[]) => {
        await Reflect.apply(value, target, args)
        return Reflect.apply(value, target, args)
      }
    },
  })
}
