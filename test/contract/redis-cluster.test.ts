import { randomUUID } from 'node:crypto'
import { Cluster } from 'ioredis'
import { createCluster } from 'redis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RedisClient, redisStore } from '../../src/idempotency/stores/redis.ts'
import { startRedisCluster } from '../support/redis-cluster.ts'
import { describeStore, tokenOf } from './idempotency-store.ts'

const cluster = await startRedisCluster()
const ports = cluster?.ports ?? [1]
const ioredis = new Cluster(
  ports.map((port) => ({ host: '127.0.0.1', port })),
  { lazyConnect: true },
)
const nodeRedis = createCluster({ rootNodes: ports.map((port) => ({ url: `redis://127.0.0.1:${port}` })) })

beforeAll(async () => {
  if (cluster !== undefined) await Promise.all([ioredis.connect(), nodeRedis.connect()])
})
afterAll(async () => {
  ioredis.disconnect()
  if (nodeRedis.isOpen) nodeRedis.destroy()
  await cluster?.stop()
})

const prefix = () => `test:${randomUUID()}:`

describe.skipIf(cluster === undefined).each<[string, RedisClient]>([
  ['redisStore on a cluster of ioredis', ioredis],
  ['redisStore on a cluster of node-redis', nodeRedis as unknown as RedisClient],
])('%s', (name, client) => {
  describeStore(name, (now) => redisStore(client, { onUnknown: 'retain', prefix: prefix(), now }))

  it('keeps records on every node, each whole on one', async () => {
    const keys = prefix()
    const store = redisStore(client, { onUnknown: 'retain', prefix: keys })
    for (let index = 0; index < 40; index += 1) {
      const use = { key: randomUUID(), fingerprint: 'f', leaseMs: 60_000, retentionMs: 60_000 }
      await store.complete(tokenOf(await store.claim(use)), 'result')
      expect(await store.claim(use)).toMatchObject({ outcome: 'replay', result: 'result' })
    }
    const counts = await Promise.all(
      ioredis.nodes('master').map(async (node) => (await node.keys(`${keys}*`)).length),
    )
    // A record, and the list of its later uses.
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(80)
    expect(counts.filter((count) => count > 0 && count % 2 === 0)).toHaveLength(3)
  })
})
