/** `instrumentIoredis` and `instrumentRedis`, on the versions that announce no command and on those that do. */
import { randomUUID } from 'node:crypto'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { Cluster, Redis } from 'ioredis'
import { Cluster as OldCluster, Redis as OldRedis } from 'ioredis-5-0'
import { createClient } from 'redis'
import { commandOptions, createClient as createClient4 } from 'redis-4'
import { createClient as createClient5, createClientPool } from 'redis-5-0'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { instrumentIoredis } from '../../src/clients/kv/ioredis.ts'
import { traceIoredis } from '../../src/clients/kv/ioredis-channels.ts'
import { compileKeyPatterns } from '../../src/clients/kv/key-patterns.ts'
import { instrumentRedis } from '../../src/clients/kv/node-redis.ts'
import { traceNodeRedis } from '../../src/clients/kv/node-redis-channels.ts'
import { DEFAULT_KEY_PATTERNS, setClientSettings } from '../../src/clients/settings.ts'
import { freePort } from '../support/free-port.ts'
import { startRedis } from '../support/redis.ts'
import { startRedisCluster } from '../support/redis-cluster.ts'
import { recordSpans, type Span, written } from '../support/traced-requests.ts'

const { spansOf, inRequest, requestSpan, taken } = recordSpans()
const server = await startRedis()
const url = server?.url ?? 'redis://127.0.0.1:1'
afterAll(() => server?.stop())

/** The commands of these tests, in one spelling for every client. */
interface Kv {
  connect(): Promise<unknown>
  close(): unknown
  get(key: string | Buffer): Promise<unknown>
  set(key: string | Buffer, value: string): Promise<unknown>
  setIfAbsent(key: string, value: string): Promise<unknown>
  exists(key: string): Promise<unknown>
  hashSet(key: string, field: string, value: string): Promise<unknown>
  hashGet(key: string, field: string): Promise<unknown>
  hashGetAll(key: string): Promise<unknown>
  push(key: string, value: string): Promise<unknown>
  command(...words: string[]): Promise<unknown>
  multi(key: string): Promise<unknown>
  failingMulti(key: string): Promise<unknown>
  pipeline(key: string): Promise<unknown>
  select(database: number): Promise<unknown>
  /** Wraps it again. */
  again(): unknown
}

type CreateKv = (url: string, keys?: string[]) => Kv

/** One that gives up at once where there is no server. */
function ioredis(Client: typeof OldRedis): CreateKv {
  return (url, keys) => {
    const options = keys === undefined ? {} : { idempotencyKeys: keys }
    const client = instrumentIoredis(
      new Client(url, { lazyConnect: true, retryStrategy: () => null }),
      options,
    )
    client.on('error', () => {})
    return {
      connect: () => client.connect(),
      close: () => client.disconnect(),
      get: (key) => client.get(key),
      set: (key, value) => client.set(key, value),
      setIfAbsent: (key, value) => client.set(key, value, 'EX', 60, 'NX'),
      exists: (key) => client.exists(key),
      hashSet: (key, field, value) => client.hset(key, field, value),
      hashGet: (key, field) => client.hget(key, field),
      hashGetAll: (key) => client.hgetall(key),
      push: (key, value) => client.lpush(key, value),
      command: (word = '', ...words) => client.call(word, ...words),
      multi: (key) => client.multi().set(key, 'done').get(key).exec(),
      failingMulti: (key) => client.multi().set(key, 'text').lpush(key, 'item').exec(),
      pipeline: (key) => client.pipeline().set(key, 'done').get(key).exists(key).exec(),
      select: (database) => client.select(database),
      again: () => instrumentIoredis(client),
    }
  }
}

function nodeRedis(create: typeof createClient5, close: 'destroy' | 'disconnect'): CreateKv {
  return (url, keys) => {
    const options = keys === undefined ? {} : { idempotencyKeys: keys }
    const client = instrumentRedis(create({ url, socket: { reconnectStrategy: false } }), options)
    client.on('error', () => {})
    return {
      connect: () => client.connect(),
      close: () => (client.isOpen ? client[close]() : undefined),
      get: (key) => client.get(key),
      set: (key, value) => client.set(key, value),
      setIfAbsent: (key, value) => client.set(key, value, { NX: true, EX: 60 }),
      exists: (key) => client.exists(key),
      hashSet: (key, field, value) => client.hSet(key, field, value),
      hashGet: (key, field) => client.hGet(key, field),
      hashGetAll: (key) => client.hGetAll(key),
      push: (key, value) => client.lPush(key, value),
      command: (...words) => client.sendCommand(words),
      multi: (key) => client.multi().set(key, 'done').get(key).exec(),
      failingMulti: (key) => client.multi().set(key, 'text').lPush(key, 'item').exec(),
      pipeline: (key) => client.multi().set(key, 'done').get(key).exists(key).execAsPipeline(),
      select: (database) => client.select(database),
      again: () => instrumentRedis(client),
    }
  }
}

const OLD: [string, CreateKv][] = [
  ['ioredis 5.10', ioredis(OldRedis)],
  ['redis 4.7', nodeRedis(createClient4 as unknown as typeof createClient5, 'disconnect')],
  ['redis 5.11', nodeRedis(createClient5, 'destroy')],
]
const NEW: [string, CreateKv][] = [
  ['ioredis 6', ioredis(Redis as unknown as typeof OldRedis)],
  ['redis 6', nodeRedis(createClient as unknown as typeof createClient5, 'destroy')],
]

const opened: { close(): unknown }[] = []
function keep<Closeable extends { close(): unknown }>(closeable: Closeable): Closeable {
  opened.push(closeable)
  return closeable
}
afterEach(async () => {
  for (const { close } of opened.splice(0)) await close()
  setClientSettings({ idempotencyKeys: DEFAULT_KEY_PATTERNS })
  taken()
})

describe.skipIf(server === undefined).each([...OLD, ...NEW])('a wrapped client of %s', (_, create) => {
  async function connected(keys?: string[]): Promise<Kv> {
    const kv = keep(create(url, keys))
    await kv.connect()
    return kv
  }

  it('gives each command of a request a client span in the database conventions', async () => {
    const kv = await connected()
    const [get, ...others] = await spansOf('order-7', () => kv.get('session:1'))
    expect(others).toEqual([])
    expect(get?.name).toBe('GET')
    expect(get?.kind).toBe(SpanKind.CLIENT)
    expect(get?.attributes).toEqual({
      'correlation.id': 'order-7',
      'db.system.name': 'redis',
      'db.operation.name': 'GET',
      'db.namespace': '0',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
    })
    expect(get?.status.code).toBe(SpanStatusCode.UNSET)
    expect(get?.parentSpanContext?.spanId).toBe(requestSpan().spanContext().spanId)
  })

  it('returns what the client returns', async () => {
    const kv = await connected()
    const key = newKey()
    await inRequest('order-7', async () => {
      expect(await kv.set(key, 'done')).toBe('OK')
      expect(await kv.get(key)).toBe('done')
      expect(await kv.hashGetAll(newKey())).toEqual({})
      expect(await kv.setIfAbsent(key, 'other')).toBeNull()
    })
  })

  it('names a command that is sent by its words, and no word that is none', async () => {
    const kv = await connected()
    const spans = await spansOf('order-7', async () => {
      await kv.command('ECHO', 'text')
      await kv.command('a secret', 'text').catch(() => {})
    })
    expect(spans.map(({ name }) => name)).toEqual(['ECHO', 'COMMAND'])
  })

  it('gives no span outside a request, and none to what a connection needs', async () => {
    const kv = await connected()
    await kv.get('session:1')
    await kv.multi(newKey())
    await kv.pipeline(newKey())
    expect(taken()).toEqual([])
    const other = keep(create(url))
    expect(await spansOf('opener', () => other.connect())).toEqual([])
  })

  it("counts commands in the request's tally, a batch as one", async () => {
    const kv = await connected()
    await inRequest('order-7', async (request) => {
      await kv.get('session:1')
      await kv.multi(newKey())
      await kv.pipeline(newKey())
      expect(request.calls.kv?.count).toBe(3)
    })
  })

  it('flags what finds an idempotency key, on the command and on the request, with a link to the first use', async () => {
    const kv = await connected()
    const key = newKey()
    const firstSpans = await spansOf('first', async () => {
      await kv.get(key)
      await kv.setIfAbsent(key, 'done')
    })
    const first = requestSpan()
    for (const span of [...firstSpans, first]) expect(span.attributes).not.toHaveProperty('idempotency.hit')
    for (const [outcome, use] of [
      ['replay', () => kv.get(key)],
      ['busy', () => kv.setIfAbsent(key, 'again')],
      ['replay', () => kv.exists(key)],
    ] as const) {
      const [span] = await spansOf('second', use)
      for (const shown of [span, requestSpan()]) {
        expect(shown?.attributes).toMatchObject({
          'idempotency.hit': true,
          'idempotency.outcome': outcome,
          'idempotency.key_hash': expect.stringMatching(/^[0-9a-f]{16}$/),
          'idempotency.origin.correlation_id': 'first',
        })
        expect(shown?.links.map(({ context }) => context.spanId)).toEqual([first.spanContext().spanId])
      }
    }
  })

  it('flags an HGET and an HGETALL that find one, because a wrap sees their key', async () => {
    const kv = await connected()
    const key = newKey()
    const spans = await spansOf('order-7', async () => {
      await kv.hashGet(key, 'state')
      await kv.hashGetAll(key)
      await kv.hashSet(key, 'state', 'done')
      await kv.hashGet(key, 'state')
      await kv.hashGetAll(key)
    })
    expect(spans.map(({ name, attributes }) => [name, attributes['idempotency.hit']])).toEqual([
      ['HGET', undefined],
      ['HGETALL', undefined],
      ['HSET', undefined],
      ['HGET', true],
      ['HGETALL', true],
    ])
  })

  it('takes its own key patterns before those of the process, and those when a key comes by', async () => {
    const [own, other] = [await connected(['once:*']), await connected()]
    setClientSettings({ idempotencyKeys: ['twice:*'] })
    const hitsOf = async (kv: Kv, key: string) => {
      await kv.set(key, 'done')
      const [span] = await spansOf('order-7', () => kv.get(key))
      return span?.attributes['idempotency.hit']
    }
    expect(await hitsOf(own, `once:${randomUUID()}`)).toBe(true)
    expect(await hitsOf(own, `twice:${randomUUID()}`)).toBeUndefined()
    expect(await hitsOf(other, `twice:${randomUUID()}`)).toBe(true)
    expect(await hitsOf(other, newKey())).toBeUndefined()
  })

  it('shows a transaction and a pipeline as one span each, with their count', async () => {
    const kv = await connected()
    const spans = await spansOf('order-7', async () => {
      await kv.multi(`order:${randomUUID()}`)
      await kv.pipeline(`order:${randomUUID()}`)
    })
    expect(spans.map(({ name, attributes }) => [name, attributes['db.operation.batch.size']])).toEqual([
      ['MULTI', 2],
      ['PIPELINE', 3],
    ])
    for (const span of spans) expect(span.status.code).toBe(SpanStatusCode.UNSET)
  })

  it('flags a batch that finds an idempotency key', async () => {
    const kv = await connected()
    for (const batch of ['multi', 'pipeline'] as const) {
      const [span] = await spansOf('order-7', () => kv[batch](newKey()))
      // Its GET finds what its SET wrote.
      expect(span?.attributes['idempotency.hit']).toBe(true)
    }
  })

  it('marks a failed command, and a batch in which one fails, by its code', async () => {
    const kv = await connected()
    const key = newKey()
    await kv.set(key, 'text')
    const spans = await spansOf('order-7', async () => {
      await expect(kv.push(key, 'item')).rejects.toThrow('WRONGTYPE')
      await kv.failingMulti(key).catch(() => {})
    })
    expect(spans.map(({ name }) => name)).toEqual(['LPUSH', 'MULTI'])
    for (const span of spans) {
      expect(span.attributes['error.type']).toBe('WRONGTYPE')
      expect(span.status).toEqual({ code: SpanStatusCode.ERROR, message: 'WRONGTYPE' })
      expect(span.events.map(({ name }) => name)).not.toContain('exception')
    }
  })

  it('keeps a command that waits for the connection in its own request, from the call on, once', async () => {
    const kv = keep(create(url))
    // Begun by another request, as a connection is.
    let connecting: Promise<unknown> | undefined
    await inRequest('opener', async () => {
      connecting = kv.connect()
    })
    const spans = await spansOf('waiting', async () => {
      await Promise.all([kv.get('session:1'), kv.multi(newKey()), kv.pipeline(newKey())])
    })
    await connecting
    expect(spans.map(({ name }) => name).sort()).toEqual(['GET', 'MULTI', 'PIPELINE'])
    for (const span of spans) {
      expect(span.attributes['correlation.id']).toBe('waiting')
      expect(span.parentSpanContext?.spanId).toBe(requestSpan().spanContext().spanId)
    }
    expect(await spansOf('later', () => kv.get('session:1'))).toHaveLength(1)
  })

  it('gives a command that nobody could take an error.type', async () => {
    const kv = keep(create(`redis://127.0.0.1:${await freePort()}`))
    const connecting = kv.connect().catch(() => {})
    const spans = await spansOf('order-7', async () => {
      await expect(kv.get('session:1')).rejects.toThrow()
      await expect(kv.multi(newKey())).rejects.toThrow()
    })
    await connecting
    expect(spans.map(({ name }) => name)).toEqual(['GET', 'MULTI'])
    for (const span of spans) {
      expect(span.attributes['error.type']).toMatch(/^\w+$/)
      expect(span.status.code).toBe(SpanStatusCode.ERROR)
    }
  })

  it('does not mix two hundred requests at once', async () => {
    const kv = await connected()
    taken()
    await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        inRequest(`order-${index}`, async () => {
          await kv.set(`order:${index}`, `value ${index}`)
          expect(await kv.get(`order:${index}`)).toBe(`value ${index}`)
          await kv.multi(`order:${index}`)
        }),
      ),
    )
    expectNoneMixed(taken(), ['SET', 'GET', 'MULTI'])
  })

  it('writes no key and no value anywhere in its spans', async () => {
    const kv = await connected()
    const secret = randomUUID()
    const key = newKey(secret)
    await spansOf('order-7', async () => {
      await kv.setIfAbsent(key, secret)
      await kv.setIfAbsent(key, secret)
      await kv.get(key)
      await kv.push(key, secret).catch(() => {})
      await kv.multi(key)
      await kv.pipeline(key)
      await kv.failingMulti(key).catch(() => {})
      await kv.hashSet(`hash:${key}`, secret, secret)
      await kv.command(secret, secret).catch(() => {})
    })
    expect(taken().map(written).join('\n')).not.toContain(secret)
  })

  it('takes keys of any bytes, and tells them apart', async () => {
    const kv = await connected()
    const prefix = Buffer.from(newKey())
    const [one, other] = [0xff, 0xfe].map((byte) => Buffer.concat([prefix, Buffer.from([byte])]))
    const spans = await spansOf('order-7', async () => {
      await kv.set(one as Buffer, 'done')
      await kv.set(other as Buffer, 'done')
      await kv.get(one as Buffer)
      await kv.get(other as Buffer)
    })
    const hashes = spans.map(({ attributes }) => attributes['idempotency.key_hash'])
    expect(new Set(hashes).size).toBe(3)
    expect(hashes.slice(2)).not.toContain(undefined)
  })

  it('names the database that was selected', async () => {
    const kv = await connected()
    await kv.select(3)
    const [get] = await spansOf('order-7', () => kv.get('session:1'))
    expect(get?.attributes['db.namespace']).toBe('3')
  })

  it('is wrapped once', async () => {
    const kv = await connected()
    kv.again()
    const spans = await spansOf('order-7', async () => {
      await kv.get('session:1')
      await kv.multi(newKey())
    })
    expect(spans.map(({ name }) => name)).toEqual(['GET', 'MULTI'])
  })
})

describe.skipIf(server === undefined).each(NEW)(
  'a wrapped client of %s, which announces its commands',
  (_, create) => {
    it('shows a command and a transaction once, whether or not register() subscribed', async () => {
      const kv = keep(create(url))
      await kv.connect()
      const namesOf = async () => {
        const spans = await spansOf('order-7', async () => {
          await kv.get('session:1')
          await kv.multi(newKey())
        })
        return spans.map(({ name }) => name)
      }
      expect(await namesOf()).toEqual(['GET', 'MULTI'])
      traceIoredis(compileKeyPatterns(DEFAULT_KEY_PATTERNS))
      traceNodeRedis(compileKeyPatterns(DEFAULT_KEY_PATTERNS))
      kv.again()
      expect(await namesOf()).toEqual(['GET', 'MULTI'])
    })
  },
)

describe.skipIf(server === undefined)('what only ioredis does', () => {
  it('shows commands that are pipelined by themselves in the request of each', async () => {
    const client = instrumentIoredis(new OldRedis(url, { enableAutoPipelining: true }))
    keep({ close: () => client.disconnect() })
    await client.ping()
    taken()
    await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        inRequest(`order-${index}`, async () => {
          await Promise.all([client.set(`order:${index}`, '1'), client.get(`order:${index}`)])
        }),
      ),
    )
    expectNoneMixed(taken(), ['SET', 'GET'])
  })

  it('shows a transaction that is sent command by command so, a transaction within a pipeline with it, and callbacks', async () => {
    const client = instrumentIoredis(new OldRedis(url))
    keep({ close: () => client.disconnect() })
    const spans = await spansOf('order-7', async () => {
      await client.multi({ pipeline: false })
      await client.get('session:1')
      await client.exec()
      const pipeline = client.pipeline()
      const inner = (pipeline as unknown as Redis).multi().get('session:1').exec() as unknown
      await (inner as typeof pipeline).get('session:2').exec()
      await new Promise((resolve) => client.get('session:1', resolve))
      await new Promise((resolve) => client.pipeline().get('session:1').exec(resolve))
    })
    expect(spans.map(({ name, attributes }) => [name, attributes['db.operation.batch.size']])).toEqual([
      ['MULTI', undefined],
      ['GET', undefined],
      ['EXEC', undefined],
      ['PIPELINE', 4],
      ['GET', undefined],
      ['PIPELINE', 1],
    ])
  })

  it('shows a command once that waits for a connection which its own request opened', async () => {
    const spans = await spansOf('order-7', async () => {
      // Connects at once, before it is wrapped.
      const client = instrumentIoredis(new OldRedis(url))
      keep({ close: () => client.disconnect() })
      await Promise.all([client.get('session:1'), client.pipeline().get('session:1').exec()])
    })
    expect(spans.map(({ name }) => name).sort()).toEqual(['GET', 'PIPELINE'])
  })

  it('shows a command that is sent again after the connection was cut once', async () => {
    const client = instrumentIoredis(new OldRedis(url, { retryStrategy: () => 10 }))
    client.on('error', () => {})
    const other = new OldRedis(url)
    keep({ close: () => [client.disconnect(), other.disconnect()] })
    const id = await client.client('ID')
    const list = `list:${randomUUID()}`
    const spans = await spansOf('order-7', async () => {
      const popped = client.blpop(list, 30)
      const pipelined = client.pipeline().get('session:1').exec()
      await other.client('KILL', 'ID', id)
      await other.rpush(list, 'item')
      expect(await popped).toEqual([list, 'item'])
      await pipelined.catch(() => {})
    })
    expect(spans.map(({ name }) => name).sort()).toEqual(['BLPOP', 'PIPELINE'])
  })

  it.each<[string, typeof OldRedis]>([
    ['5.10', OldRedis],
    ['6', Redis as unknown as typeof OldRedis],
  ])('leaves what is rejected and ignored as unhandled as ioredis %s does', async (version, Client) => {
    const calls: Record<string, (client: OldRedis) => unknown> = {
      command: (client) => client.lpush('text', 'item'),
      'command with a callback': (client) => client.lpush('text', 'item', () => {}),
      'refused transaction': (client) => client.multi().call('NO-COMMAND').exec(),
      'refused transaction with a callback': (client) =>
        client
          .multi()
          .call('NO-COMMAND')
          .exec(() => {}),
      pipeline: (client) => client.pipeline().lpush('text', 'item').exec(),
      'command that is awaited later': (client) => client.lpush('text', 'item').catch(() => {}),
    }
    const unhandledOf = async (client: OldRedis) => {
      keep({ close: () => client.disconnect() })
      await client.set('text', 'text')
      const names: string[] = []
      for (const [name, call] of Object.entries(calls)) {
        const onUnhandled = () => void names.push(name)
        process.on('unhandledRejection', onUnhandled)
        await inRequest('order-7', async () => void call(client))
        await client.ping()
        await new Promise((resolve) => setImmediate(resolve))
        process.off('unhandledRejection', onUnhandled)
      }
      return names
    }
    const plain = await unhandledOf(new Client(url))
    expect(await unhandledOf(instrumentIoredis(new Client(url)))).toEqual(plain)
    // What announces its commands to a listener handles their rejections itself.
    if (version === '5.10') expect(plain).toEqual(['command', 'refused transaction'])
  })

  it('shows a script that is loaded on its way', async () => {
    const client = instrumentIoredis(
      new OldRedis(url, { scripts: { echoed: { lua: 'return ARGV[1]', numberOfKeys: 0 } } }),
    )
    keep({ close: () => client.disconnect() })
    const { echoed } = client as unknown as { echoed(text: string): Promise<unknown> }
    const spans = await spansOf('order-7', async () => {
      expect(await echoed.call(client, 'text')).toBe('text')
    })
    expect(spans.map(({ name }) => name)).toContain('EVALSHA')
  })
})

const cluster = server && (await startRedisCluster())
afterAll(() => cluster?.stop())

describe.each<[string, typeof OldCluster]>([
  ['5.10', OldCluster],
  ['6', Cluster as unknown as typeof OldCluster],
])('a wrapped Cluster of ioredis %s that is never ready', (_, ClusterClient) => {
  it('shows a command, a transaction and a pipeline that were given up as failed', async () => {
    const port = await freePort()
    const client = instrumentIoredis(
      new ClusterClient([{ host: '127.0.0.1', port }], { clusterRetryStrategy: () => null }),
    )
    client.on('error', () => {})
    keep({ close: () => client.disconnect() })
    const spans = await spansOf('order-7', async () => {
      const given = await Promise.allSettled([
        client.get('session:1'),
        client.multi().get('session:1').exec(),
        client.pipeline().get('session:1').exec(),
      ])
      expect(given.map(({ status }) => status)).toEqual(Array(3).fill('rejected'))
    })
    expect(spans.map(({ name }) => name).sort()).toEqual(['GET', 'MULTI', 'PIPELINE'])
    for (const span of spans) expect(span.status.code).toBe(SpanStatusCode.ERROR)
  })
})

describe.skipIf(cluster === undefined).each<[string, typeof OldCluster]>([
  ['5.10', OldCluster],
  ['6', Cluster as unknown as typeof OldCluster],
])('a wrapped Cluster of ioredis %s', (_, ClusterClient) => {
  it('shows its commands once, wherever they are sent', async () => {
    const nodes = cluster?.ports.map((port) => ({ host: '127.0.0.1', port })) ?? []
    const client = instrumentIoredis(new ClusterClient(nodes))
    keep({ close: () => client.disconnect() })
    const key = newKey()
    const sessions = Array.from({ length: 10 }, (_, index) => `session:${index}`)
    const use = async () => {
      await client.set(key, 'done')
      for (const session of sessions) await client.get(session)
      await client.pipeline().get(key).exists(key).exec()
    }
    // Connects to each node.
    await use()
    const spans = await spansOf('order-7', use)
    expect(spans.map(({ name }) => name)).toEqual(['SET', ...sessions.map(() => 'GET'), 'PIPELINE'])
  })
})

describe.skipIf(server === undefined)('a wrapped client of ioredis 6', () => {
  // The client announces its commands alone.
  it('shows a pipeline as one span with its count and its hits, a MULTI as it announces it', async () => {
    const client = instrumentIoredis(new Redis(url))
    keep({ close: () => client.disconnect() })
    const key = newKey()
    await client.set(key, 'done')
    const spans = await spansOf('order-7', async () => {
      await client.pipeline().get(key).exists('session:1').exec()
      await client.multi().get('session:1').exec()
      await client.get('session:1')
    })
    expect(spans.map(({ name, attributes }) => [name, attributes['db.operation.batch.size']])).toEqual([
      ['PIPELINE', 2],
      ['MULTI', 1],
      ['GET', undefined],
    ])
    expect(spans[0]?.attributes['idempotency.hit']).toBe(true)
  })
})

describe.skipIf(server === undefined)('what only node-redis does', () => {
  it('shows commands of modules, scripts, options and isolated clients of redis 4 once', async () => {
    const client = instrumentRedis(createClient4({ url, scripts: {} }))
    await client.connect()
    keep({ close: () => client.disconnect() })
    const key = newKey()
    await client.set(key, 'done')
    const spans = await spansOf('order-7', async () => {
      await client.json.get('document').catch(() => {})
      await client.get(commandOptions({ returnBuffers: true }), key)
      await client.get(commandOptions({ isolated: true }), 'session:1')
      await client.executeIsolated(async (isolated) => {
        await isolated.watch('session:1')
        await isolated.multi().get('session:1').exec()
      })
      await client.get(commandOptions({ isolated: true }), 'session:1')
      await client.configGet('maxmemory')
    })
    expect(spans.map(({ name }) => name)).toEqual([
      'JSON.GET',
      'GET',
      'GET',
      'WATCH',
      'MULTI',
      'GET',
      'CONFIG',
    ])
    expect(spans[1]?.attributes['idempotency.hit']).toBe(true)
  })

  it('leaves the error of arguments that redis 4 refuses to redis 4', async () => {
    const client = instrumentRedis(createClient4({ url }))
    await client.connect()
    keep({ close: () => client.disconnect() })
    await inRequest('order-7', async () => {
      await expect(client.hSet('hash', undefined as never)).rejects.toThrow(TypeError)
    })
  })

  it('shows what is sent with other options of redis 5', async () => {
    const client = instrumentRedis(createClient5({ url }))
    await client.connect()
    keep({ close: () => client.destroy() })
    const spans = await spansOf('order-7', async () => {
      await client.withCommandOptions({ timeout: 5000 }).get('session:1')
      await client.asap().multi().get('session:1').exec()
    })
    expect(spans.map(({ name }) => name)).toEqual(['GET', 'MULTI'])
  })
})

describe('what is no client', () => {
  it.each([undefined, {}, new URL('http://localhost')])('is refused: %j', (client) => {
    expect(() => instrumentIoredis(client as never)).toThrow(
      'instrumentIoredis: "client" must be a Redis or a Cluster of ioredis (>=5).',
    )
    expect(() => instrumentRedis(client as never)).toThrow(
      /^instrumentRedis: "client" must be made by createClient/,
    )
  })

  it('is refused by instrumentRedis: a pool, a client in legacyMode, one of ioredis', () => {
    const ioredis = new OldRedis(url, { lazyConnect: true })
    for (const client of [createClientPool({ url }), createClient4({ legacyMode: true }), ioredis])
      expect(() => instrumentRedis(client as never)).toThrow(TypeError)
  })
})

function newKey(secret: string = randomUUID()): string {
  return `idempotency:${secret}`
}

/** Each of two hundred requests has these spans below its own, and no other. */
function expectNoneMixed(spans: Span[], names: string[]): void {
  const requests = spans.filter(({ name }) => name === 'request')
  expect(requests).toHaveLength(200)
  for (const request of requests) {
    const id = request.attributes['correlation.id']
    const own = spans.filter((span) => span !== request && span.attributes['correlation.id'] === id)
    expect(own.map(({ name }) => name)).toEqual(names)
    for (const span of own) expect(span.parentSpanContext?.spanId).toBe(request.spanContext().spanId)
  }
}
