/**
 * ioredis by one line, around what a client sends: for 5.0 to 5.10, which announce nothing. Of a newer one it tells
 * more than the channels do: the key of an HGET, a pipeline as one call, a command that waits for the connection.
 */
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { unannounced, unannouncedBatch } from './command-channel.js'
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

export type { InstrumentKvOptions }

/** `Redis` or `Cluster` of ioredis ≥5: the methods wrapped. */
export interface IoredisClient {
  sendCommand(...args: never[]): unknown
  pipeline(...args: never[]): unknown
  multi(...args: never[]): unknown
  connect(...args: never[]): unknown
}

/**
 * Returns the same client, its commands traced, also where `register()` has not been called. Its `duplicate()` is
 * another client.
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

/** How a command and a pipeline settle the promise that they gave their caller. */
interface Settling {
  resolve(reply: unknown): unknown
  reject(error: unknown): unknown
}

interface InnerCommand extends Settling {
  name: string
  args: readonly unknown[]
  [SENT]?: true
}

interface InnerPipeline extends Settling {
  isPipeline?: true
  isCluster?: boolean
  redis: { slots?: readonly unknown[] }
  _queue: readonly InnerCommand[]
  exec(...args: unknown[]): unknown
  sendCommand(command: InnerCommand): unknown
}

const SENT = Symbol('throughline.sent')

function wrapClient(client: InnerClient, kv: WrappedKv): void {
  const { sendCommand, pipeline, multi, connect } = client
  putMethod(client, 'connect', (...args: unknown[]) => outsideRequest(() => connect.apply(client, args)))
  putMethod(client, 'sendCommand', ((command, stream, node) => {
    const send = () => sendCommand.call(client, command, stream, node)
    const call = isFirstSent(command) && !stream?.isPipeline ? openSent(kv, sentOf(command)) : undefined
    if (call === undefined) return send()
    // Before a cluster puts its redirections in the place of `reject`.
    closeWithReply(call, kv, command)
    return unannounced(send)
  }) satisfies InnerClient['sendCommand'])
  putMethod(client, 'pipeline', (...args: unknown[]) =>
    wrapPipeline(pipeline.apply(client, args) as InnerPipeline, 'PIPELINE', kv),
  )
  putMethod(client, 'multi', (...args: unknown[]) =>
    wrapPipeline(multi.apply(client, args) as InnerPipeline, 'MULTI', kv),
  )
}

/** True once: a command comes by again when it leaves the offline queue, and when it is sent once more. */
function isFirstSent(command: InnerCommand): boolean {
  if (command[SENT]) return false
  command[SENT] = true
  return true
}

interface Outcome {
  reply?: unknown
  failure?: { error: unknown }
}

/**
 * How it ends, in the context of now. Not read from the promise that the caller has: with a handler of ours on it, a
 * rejection that the app ignores would no longer be an `unhandledRejection`.
 */
function outcomeOf(settling: Settling): Promise<Outcome> {
  return new Promise((settle) => {
    const { resolve, reject } = settling
    const outcome: Outcome = {}
    // Ours first, so that a call is closed when its caller goes on.
    settling.resolve = (reply) => {
      outcome.reply = reply
      settle(outcome)
      return resolve.call(settling, reply)
    }
    // Also called from within `resolve`, for a reply that cannot be read.
    settling.reject = (error) => {
      outcome.failure = { error }
      settle(outcome)
      return reject.call(settling, error)
    }
  })
}

function closeWithReply(call: OpenCall, kv: WrappedKv, command: InnerCommand): void {
  void outcomeOf(command).then(({ reply, failure }) => {
    if (failure === undefined) watchReply(call, kv, sentOf(command), reply)
    else failCall(call, failure.error)
    closeCall(call)
  })
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
    const isShown = isAutomatic(pipeline) && isFirstSent(command)
    const call = isShown ? openSent(kv, sentOf(command)) : undefined
    if (call !== undefined) closeWithReply(call, kv, command)
    return sendCommand.call(pipeline, command)
  })
  putMethod(pipeline, 'exec', (...args: unknown[]) => {
    const startedAt = performance.now()
    const execute = () => exec.apply(pipeline, args)
    if (isOpened || isAutomatic(pipeline)) return execute()
    const commands = pipeline._queue.map(sentOf).filter(([name]) => operation !== 'MULTI' || name !== 'multi')
    // A transaction waits for a cluster outside its pipeline, which is never settled if the cluster gives up. So there
    // the answer is read, though it is then silent where nobody handles its rejection.
    const isAnswerRead = operation === 'MULTI' && pipeline.isCluster && pipeline.redis.slots?.length === 0
    const outcome = isAnswerRead ? undefined : outcomeOf(pipeline)
    const answer = unannouncedBatch(execute)
    // A cluster executes again after a redirection; within a pipeline the `exec` of a `multi` is a command.
    if (!(answer instanceof Promise) || commands.length === 0) return answer
    isOpened = true
    const call = openBatch(kv, operation, commands.length, startedAt)
    if (call === undefined) return answer
    if (outcome === undefined) closeWithReplies(call, kv, commands, outcomeOfAnswer(answer))
    else closeWithReplies(call, kv, commands, operation === 'MULTI' ? outcome.then(outcomeOfExec) : outcome)
    return answer
  })
  return pipeline
}

/** The outcome's reply is a pair of an error and a reply for each command. */
function closeWithReplies(
  call: OpenCall,
  kv: WrappedKv,
  commands: readonly SentCommand[],
  outcome: Promise<Outcome>,
): void {
  void outcome.then(({ reply: pairs, failure }) => {
    if (failure !== undefined) failCall(call, failure.error)
    else if (Array.isArray(pairs))
      watchReplies(
        call,
        kv,
        commands,
        pairs.map(([error, reply]) => error ?? reply),
      )
    closeCall(call)
  })
}

function outcomeOfAnswer(answer: Promise<unknown>): Promise<Outcome> {
  return answer.then(
    (reply) => ({ reply }),
    (error) => ({ failure: { error } }),
  )
}

// What came back for a transaction is the reply of its EXEC, the last command.
function outcomeOfExec(outcome: Outcome): Outcome {
  if (outcome.failure !== undefined || !Array.isArray(outcome.reply)) return outcome
  const [error, replies] = outcome.reply.at(-1) ?? []
  if (error !== null && error !== undefined) return { failure: { error } }
  return { reply: Array.isArray(replies) ? replies.map((reply) => [null, reply]) : undefined }
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
