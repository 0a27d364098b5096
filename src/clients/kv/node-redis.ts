/**
 * node-redis (`redis`, `@redis/client`) by one line, around what a client sends: for 4 and 5.0 to 5.11, which announce
 * nothing. Of a newer one it tells more than the channels do: the key of an HGET.
 */
import type { CommandPlace } from './command-span.js'
import {
  type InstrumentKvOptions,
  isFirstWrap,
  outsideRequest,
  putMethod,
  type SentCommand,
  sendBatchTraced,
  sendTraced,
  type WrappedKv,
  wrappedKv,
} from './command-wrap.js'
import { isNodeRedis4, wrapNodeRedis4 } from './node-redis-4.js'

export type { InstrumentKvOptions }

/** A client of node-redis ≥4, as `createClient` makes it: the methods wrapped. */
export interface NodeRedisClient {
  sendCommand(...args: never[]): unknown
  multi(...args: never[]): unknown
  connect(...args: never[]): unknown
}

/**
 * Returns the same client, its commands traced, also where `register()` has not been called. Its `duplicate()` is
 * another client.
 *
 * @throws {TypeError} for what `createClient` did not make (a pool, a cluster), and for one in `legacyMode`.
 * @example export const redis = instrumentRedis(createClient({ url: process.env.REDIS_URL }))
 */
export function instrumentRedis<Client extends NodeRedisClient>(
  client: Client,
  options: InstrumentKvOptions = {},
): Client {
  // What `createClient` of 5 returns inherits from the client itself.
  const inner = (client as { _self?: object } | undefined)?._self ?? Object(client)
  if (!isNodeRedis5(inner) && !isNodeRedis4(inner))
    throw new TypeError(
      'instrumentRedis: "client" must be made by createClient of redis (>=4), without legacyMode.',
    )
  if (!isFirstWrap(inner)) return client
  const kv: WrappedKv = wrappedKv('node-redis', options, () => placeOf(inner, kv.selectedDatabase))
  if (isNodeRedis5(inner)) wrapNodeRedis5(inner, kv)
  else wrapNodeRedis4(inner, kv)
  return client
}

/** What is read of node-redis from 5 on. */
interface NodeRedis5 {
  connect(): Promise<unknown>
  sendCommand(args: SentCommand, options?: unknown): Promise<unknown>
  _executeMulti: ExecuteBatch
  _executePipeline: ExecuteBatch
}

type ExecuteBatch = (commands: readonly { args: SentCommand }[], ...rest: unknown[]) => Promise<unknown>

function isNodeRedis5(client: object): client is NodeRedis5 {
  return '_executeMulti' in client && '_executePipeline' in client
}

// `this` may inherit from the client, with command options of its own.
function wrapNodeRedis5(client: NodeRedis5, kv: WrappedKv): void {
  const { connect, sendCommand } = client
  putMethod(client, 'connect', function (this: unknown) {
    return outsideRequest(() => connect.call(this as NodeRedis5))
  })
  putMethod(client, 'sendCommand', async function (this: NodeRedis5, args: SentCommand, options?: unknown) {
    const reply = await sendTraced(kv, args, () => sendCommand.call(this, args, options))
    if (args[0] === 'SELECT') kv.selectedDatabase = Number(args[1])
    return reply
  })
  for (const [method, operation] of [
    ['_executeMulti', 'MULTI'],
    ['_executePipeline', 'PIPELINE'],
  ] as const) {
    const execute = client[method]
    putMethod(client, method, function (this: unknown, ...[commands, ...rest]: Parameters<ExecuteBatch>) {
      const sent = commands.map(({ args }) => args)
      return sendBatchTraced(kv, operation, sent, () => execute.call(this, commands, ...rest))
    })
  }
}

interface ClientOptions {
  database?: number
  socket?: { host?: string; port?: number; path?: string }
}

function placeOf(client: object, selectedDatabase: number | undefined): CommandPlace {
  const { database, socket } = (client as { options?: ClientOptions }).options ?? {}
  const isByPath = socket?.path !== undefined
  return {
    database: selectedDatabase ?? database ?? 0,
    serverAddress: socket?.path ?? socket?.host ?? 'localhost',
    serverPort: isByPath ? undefined : (socket?.port ?? 6379),
  }
}
