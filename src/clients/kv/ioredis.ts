/**
 * ioredis by one line, around what a client sends: all of it for 5.0 to 5.10, which announce nothing; for newer ones,
 * whose channels tell the rest, a pipeline as the one call that it is.
 */
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { unannounced } from './command-channel.js'
import type { CommandPlace } from './command-span.js'
import {
  type InstrumentKvOptions,
  isFirstWrap,
  openBatch,
  openSent,
  outsideRequest,
  putMethod,
  type SentCommand,
  type WrappedKv,
  watchReplies,
  watchReply,
  wrappedKv,
} from './command-wrap.js'
import { traceIoredis } from './ioredis-channels.js'

export type { InstrumentKvOptions }

/** `Redis` or `Cluster` of ioredis ≥5: the methods wrapped. */
export interface IoredisClient {
  sendCommand(...args: never[]): unknown
  pipeline(...args: never[]): unknown
  multi(...args: never[]): unknown
  connect(...args: never[]): unknown
}

/**
 * Returns the same client, its commands traced: for ioredis 5.0 to 5.10, which announce none. Of a newer one it
 * subscribes to the channels, where `register()` has not, and makes a pipeline one span. Its `duplicate()` is another
 * client.
 *
 * @throws {TypeError} for what is no client of ioredis.
 * @example export const redis = instrumentIoredis(new Redis(process.env.REDIS_URL))
 */
export function instrumentIoredis<Client extends IoredisClient>(
  client: Client,
  options: InstrumentKvOptions = {},
): Client {
  if (typeof client?.sendCommand !== 'function' || typeof client.pipeline !== 'function')
    throw new TypeError('instrumentIoredis: "client" must be a Redis or a Cluster of ioredis (>=5).')
  if (!isFirstWrap(client)) return client
  const inner = client as unknown as InnerClient
  const kv = wrappedKv('ioredis', options, () => placeOf(inner))
  const mayAnnounce = '_buildCommandContext' in inner || inner.isCluster === true
  if (mayAnnounce) traceIoredis(kv.isIdempotencyKey)
  wrapClient(inner, kv)
  return client
}

/** What is read of a client. */
interface InnerClient {
  isCluster?: boolean
  options: { host?: string; port?: number; path?: string; db?: number }
  condition?: { select?: number } | null
  sendCommand(command: InnerCommand, stream?: { isPipeline?: boolean }, node?: unknown): unknown
  pipeline(...args: unknown[]): unknown
  multi(...args: unknown[]): unknown
  connect(...args: unknown[]): unknown
}

interface InnerCommand {
  name: string
  args: readonly unknown[]
  promise: Promise<unknown>
  /** There from 5.11 on: the client announces the command, now or when it leaves the queue. */
  isTraced?: boolean
  [SEEN]?: true
}

interface InnerPipeline {
  isPipeline?: true
  /** Commands so far. */
  length: number
  _queue: readonly InnerCommand[]
  exec(...args: unknown[]): unknown
  sendCommand(command: InnerCommand): unknown
}

/** Decided upon: a command comes by again when it leaves the offline queue, and when it is sent once more. */
const SEEN = Symbol('throughline.seen')

function wrapClient(client: InnerClient, kv: WrappedKv): void {
  const { sendCommand, pipeline, multi, connect } = client
  putMethod(client, 'connect', (...args: unknown[]) => outsideRequest(() => connect.apply(client, args)))
  putMethod(client, 'sendCommand', ((command, stream, node) => {
    const call = isShownHere(command) && !stream?.isPipeline ? openSent(kv, sentOf(command)) : undefined
    const sent = sendCommand.call(client, command, stream, node)
    if (call !== undefined) closeWithReply(call, kv, command)
    return sent
  }) satisfies InnerClient['sendCommand'])
  putMethod(client, 'pipeline', (...args: unknown[]) =>
    wrapPipeline(pipeline.apply(client, args) as InnerPipeline, 'PIPELINE', kv),
  )
  putMethod(client, 'multi', (...args: unknown[]) =>
    wrapPipeline(multi.apply(client, args) as InnerPipeline, 'MULTI', kv),
  )
}

/** True once for each command that this client does not announce. */
function isShownHere(command: InnerCommand): boolean {
  if (command[SEEN] || command.isTraced !== undefined) return false
  command[SEEN] = true
  return true
}

function closeWithReply(call: OpenCall, kv: WrappedKv, command: InnerCommand): void {
  // Beside the caller's own handlers: a command with a callback leaves its promise to nobody.
  command.promise.then(
    (reply) => {
      watchReply(call, kv, sentOf(command), reply)
      closeCall(call)
    },
    (error) => {
      failCall(call, error)
      closeCall(call)
    },
  )
}

function wrapPipeline<Batch extends InnerPipeline>(
  pipeline: Batch,
  operation: 'MULTI' | 'PIPELINE',
  kv: WrappedKv,
): Batch {
  // `multi({ pipeline: false })` sends its commands one by one.
  if (pipeline?.isPipeline !== true) return pipeline
  const { exec, sendCommand } = pipeline
  let isOpened = false
  putMethod(pipeline, 'sendCommand', (command: InnerCommand) => {
    // Commands of several requests share an automatic pipeline, so each is shown by itself, in its own.
    const isShown = isAutomatic(pipeline) && isShownHere(command)
    const call = isShown ? openSent(kv, sentOf(command)) : undefined
    const added = sendCommand.call(pipeline, command)
    if (call !== undefined) closeWithReply(call, kv, command)
    return added
  })
  putMethod(pipeline, 'exec', (...args: unknown[]) => {
    const startedAt = performance.now()
    const execute = () => exec.apply(pipeline, args)
    const isAnnounced = pipeline._queue.some(({ isTraced }) => isTraced !== undefined)
    // A client that announces its commands tells of a MULTI that it is one, of a pipeline only its commands.
    if (isOpened || isAutomatic(pipeline) || (isAnnounced && operation === 'MULTI')) return execute()
    const commands = pipeline._queue.map(sentOf).filter(([name]) => operation !== 'MULTI' || name !== 'multi')
    const answer = unannounced(execute)
    // A cluster executes again after a redirection; within a pipeline the `exec` of a `multi` is a command.
    if (!(answer instanceof Promise) || commands.length === 0) return answer
    isOpened = true
    const call = openBatch(kv, operation, commands.length, startedAt)
    if (call !== undefined) closeWithReplies(call, kv, commands, answer)
    return answer
  })
  return pipeline
}

function closeWithReplies(
  call: OpenCall,
  kv: WrappedKv,
  commands: readonly SentCommand[],
  answer: Promise<unknown>,
): void {
  answer.then(
    (pairs) => {
      const replies = Array.isArray(pairs) ? pairs.map(([error, reply]) => error ?? reply) : undefined
      watchReplies(call, kv, commands, replies)
      closeCall(call)
    },
    (error) => {
      failCall(call, error)
      closeCall(call)
    },
  )
}

// Of `enableAutoPipelining`: ioredis marks it by a symbol of its own.
function isAutomatic(pipeline: InnerPipeline): boolean {
  return Object.getOwnPropertySymbols(pipeline).some(({ description }) => description === 'exec')
}

function sentOf({ name, args }: InnerCommand): SentCommand {
  return [name, ...args]
}

function placeOf({ isCluster, options, condition }: InnerClient): CommandPlace {
  if (isCluster) return {}
  return {
    database: condition?.select ?? options.db ?? 0,
    serverAddress: options.path ?? options.host,
    serverPort: options.path === undefined || options.path === null ? options.port : undefined,
  }
}
