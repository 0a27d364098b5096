/** What would make a Redis lose records without a word: looked at once per client, told in a warning. */
import { processWide } from '../../context/index.js'
import { logger } from '../../logging/index.js'
import type { RedisClient } from './redis-client.js'

const checked = processWide('idempotency.redis.checked', () => new WeakSet<RedisClient>())

/** Looks at the server in the background, the first time it is called for a client. Never throws. */
export function checkServer(client: RedisClient): void {
  if (checked.has(client)) return
  checked.add(client)
  // A cluster client of node-redis has no INFO; a server may forbid it.
  if (!('info' in client) || typeof client.info !== 'function') return
  Promise.resolve(client.info())
    .then((info: unknown) => {
      for (const warning of serverWarnings(String(info))) logger.warn(`throughline: ${warning}`)
    })
    .catch(() => {})
}

/** @param info the answer to INFO: lines of `name:value` */
function serverWarnings(info: string): string[] {
  const fields = new Map(info.split('\r\n').map((line) => line.split(/:(.*)/s, 2) as [string, string]))
  const policy = fields.get('maxmemory_policy') ?? 'noeviction'
  const warnings: string[] = []
  if (policy !== 'noeviction' && fields.get('maxmemory') !== '0') {
    warnings.push(
      `this Redis evicts when its memory is full (maxmemory-policy ${policy}), and a repeat of an evicted key ` +
        'runs again. Mend it with: CONFIG SET maxmemory-policy noeviction, or give redisStore a Redis of its own.',
    )
  }
  if (fields.get('role') === 'slave') {
    warnings.push(
      'this Redis is a replica: it refuses claims, or loses them at its next sync. Connect redisStore to the primary.',
    )
  }
  return warnings
}
