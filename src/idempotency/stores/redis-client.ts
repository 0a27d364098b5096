/** The few methods of a Redis client that the store calls, the same for ioredis and node-redis. */

/** ioredis ≥5, standalone or cluster: the methods called. */
export interface IoredisLike {
  evalsha(sha1: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
  eval(script: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
  hgetall(key: string): Promise<unknown>
}

/** node-redis ≥4, standalone, pool or cluster: the methods called. */
export interface NodeRedisLike {
  evalSha(sha1: string, options: ScriptArguments): Promise<unknown>
  eval(script: string, options: ScriptArguments): Promise<unknown>
  hGetAll(key: string): Promise<unknown>
}

interface ScriptArguments {
  keys: string[]
  arguments: string[]
}

/** A client the store can be built on. */
export type RedisClient = IoredisLike | NodeRedisLike

/** A Lua script and the SHA-1 that Redis knows it by, in hex. */
export interface Script {
  text: string
  sha1: string
}

/** One record's key, and what is done to it. */
interface RedisCalls {
  /** Runs a script on one key: one round trip, or two when the server has not seen the script yet. */
  run(script: Script, key: string, args: string[]): Promise<unknown>
  /** All fields of a hash; empty when there is none. */
  readHash(key: string): Promise<Record<string, string>>
}

/** @throws {TypeError} for a client that is neither. */
export function redisCallsOf(client: RedisClient): RedisCalls {
  if ('evalSha' in client && typeof client.evalSha === 'function') return nodeRedisCalls(client)
  if ('evalsha' in client && typeof client.evalsha === 'function') return ioredisCalls(client)
  throw new TypeError('redisStore: "client" must be a client of ioredis (>=5) or node-redis (>=4).')
}

function ioredisCalls(client: IoredisLike): RedisCalls {
  return {
    run: ({ sha1, text }, key, args) =>
      orLoading(
        () => client.evalsha(sha1, 1, key, ...args),
        () => client.eval(text, 1, key, ...args),
      ),
    readHash: async (key) => texts(await client.hgetall(key)),
  }
}

function nodeRedisCalls(client: NodeRedisLike): RedisCalls {
  return {
    run: ({ sha1, text }, key, args) =>
      orLoading(
        () => client.evalSha(sha1, { keys: [key], arguments: args }),
        () => client.eval(text, { keys: [key], arguments: args }),
      ),
    readHash: async (key) => texts(await client.hGetAll(key)),
  }
}

// EVAL also loads the script, so this happens once per server, and again after a restart or SCRIPT FLUSH.
async function orLoading(known: () => Promise<unknown>, load: () => Promise<unknown>): Promise<unknown> {
  try {
    return await known()
  } catch (error) {
    if (error instanceof Error && error.message.startsWith('NOSCRIPT')) return load()
    throw error
  }
}

function texts(hash: unknown): Record<string, string> {
  return Object.fromEntries(Object.entries(hash ?? {}).map(([field, value]) => [field, String(value)]))
}
