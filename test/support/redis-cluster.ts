/** A real Redis Cluster of three primaries, on the `redis-server` that `startRedis` finds. */
import { Redis } from 'ioredis'
import { eventually } from './eventually.ts'
import { type RedisServer, startRedis } from './redis.ts'

export interface RedisCluster {
  /** Ports of the nodes, on loopback. */
  ports: number[]
  stop(): Promise<void>
}

const NODES = 3
const SLOTS = 16_384

/** A cluster, or undefined when there is no `redis-server`: the reason has been printed, skip then. */
export async function startRedisCluster(): Promise<RedisCluster | undefined> {
  const started = await Promise.all(Array.from({ length: NODES }, () => startRedis({ isClusterNode: true })))
  const nodes = started.filter((node): node is RedisServer => node !== undefined)
  if (nodes.length < NODES) return undefined
  const admins = nodes.map(({ url }) => new Redis(url))
  const ports = nodes.map(({ url }) => Number(new URL(url).port))
  try {
    await join(admins, ports)
  } finally {
    for (const admin of admins) admin.disconnect()
  }
  return {
    ports,
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()))
    },
  }
}

async function join(admins: Redis[], ports: number[]): Promise<void> {
  const busPorts = await Promise.all(
    admins.map(
      async (admin) => String((await admin.config('GET', 'cluster-port')) as string[]).split(',')[1],
    ),
  )
  for (const [index, admin] of admins.entries()) {
    const first = Math.floor((SLOTS * index) / NODES)
    const next = Math.floor((SLOTS * (index + 1)) / NODES)
    await admin.call('CLUSTER', 'ADDSLOTSRANGE', String(first), String(next - 1))
  }
  for (const [index, port] of ports.entries()) {
    await admins[0]?.call('CLUSTER', 'MEET', '127.0.0.1', String(port), busPorts[index] ?? '')
  }
  await eventually(async () => {
    for (const admin of admins) {
      const info = String(await admin.call('CLUSTER', 'INFO'))
      if (!info.includes('cluster_state:ok') || !info.includes(`cluster_known_nodes:${NODES}`)) {
        throw new Error(info)
      }
    }
  }, 30_000)
}
