/** The few methods of a Redis client that the store calls, the same for ioredis and node-redis. */

import { orLoading, withoutCommand } from './redis-scripts.js'
import type { ScriptCalls } from './script-store.js'

/** ioredis ≥5, standalone or cluster: the methods called. */
export interface IoredisLike {
  evalsha(sha1: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
  eval(script: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>
}

/** node-redis ≥4, standalone, pool or cluster: the methods called. */
export interface NodeRedisLike {
  evalSha(sha1: string, options: ScriptArguments): Promise<unknown>
  eval(script: string, options: ScriptArguments): Promise<unknown>
}

interface ScriptArguments {
  keys: string[]
  arguments: string[]
}

/** A client the store can be built on. */
export type RedisClient = IoredisLike | NodeRedisLike

/** @throws {TypeError} for a client that is neither. */
export function redisCallsOf(client: RedisClient): ScriptCalls {
  if ('evalSha' in client && typeof client.evalSha === 'function') return nodeRedisCalls(client)
  if ('evalsha' in client && typeof client.evalsha === 'function') {
    if ('sendCommand' in client) return ioredisCalls(client)
    throw new TypeError(
      'redisStore: "client" speaks REST. Use upstashStore from throughline/idempotency/upstash.',
    )
  }
  throw new TypeError('redisStore: "client" must be a client of ioredis (>=5) or node-redis (>=4).')
}

function ioredisCalls(client: IoredisLike): ScriptCalls {
  return {
    run: ({ sha1, text }, keys, args) =>
      orLoading(
        () => client.evalsha(sha1, keys.length, ...keys, ...args),
        () => client.eval(text, keys.length, ...keys, ...args),
      ).catch((error: unknown) => {
        throw withoutCommand(error)
      }),
  }
}

function nodeRedisCalls(client: NodeRedisLike): ScriptCalls {
  return {
    run: ({ sha1, text }, keys, args) =>
      orLoading(
        () => client.evalSha(sha1, { keys, arguments: args }),
        () => client.eval(text, { keys, arguments: args }),
      ),
  }
}
