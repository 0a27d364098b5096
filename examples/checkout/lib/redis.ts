import { Redis } from 'ioredis'

// Next loads this module once per bundle; the connection should be one per process.
const holder = globalThis as { checkoutRedis?: Redis }

/** The Redis connection, or undefined when `REDIS_URL` is not set. */
export function redis(): Redis | undefined {
  const url = process.env.REDIS_URL
  if (!url) return undefined
  holder.checkoutRedis ??= new Redis(url, { maxRetriesPerRequest: 1 }).on('error', () => {})
  return holder.checkoutRedis
}
