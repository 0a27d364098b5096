/**
 * What the one-line wraps of KV clients share: one command or batch, from the call to its reply, in the request
 * that made it. A wrap holds the real arguments and sees the real reply, so it knows what a channel does not tell: the
 * key of an `HGET`, a command that waits until the connection stands.
 */
import { contextStorage, processWide, type RequestContext, tryGetContext } from '../../context/index.js'
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { unannounced, unannouncedBatch } from './command-channel.js'
import { type CommandPlace, isHandshake, openCommand } from './command-span.js'
import { type KeyTest, keyTestOf, keyText } from './key-patterns.js'
import { watchRecipe } from './recipe.js'

/** How a client is traced. */
export interface InstrumentKvOptions {
  /**
   * Keys of a hand-written idempotency recipe, `*` for any characters. Default those of `throughline({ … })`, which
   * are `['idempotency:*', 'idem:*']` unless set.
   */
  idempotencyKeys?: readonly string[]
}

/** A client under a wrap. */
export interface WrappedKv {
  /** For the counter: `ioredis`, `node-redis`. */
  readonly client: string
  readonly isIdempotencyKey: KeyTest
  place(): CommandPlace
  /** The database that the client was last told to select, where it does not tell by itself. */
  selectedDatabase?: number
}

/** A command as it is sent: its name, then its arguments. */
export type SentCommand = readonly unknown[]

export function wrappedKv(
  client: string,
  { idempotencyKeys }: InstrumentKvOptions,
  place: WrappedKv['place'],
): WrappedKv {
  return { client, isIdempotencyKey: keyTestOf(idempotencyKeys), place }
}

const wrapped = processWide('clients.kv.wrapped', () => new WeakSet<object>())

/** True the first time that it is asked for a client. */
export function isFirstWrap(client: object): boolean {
  if (wrapped.has(client)) return false
  wrapped.add(client)
  return true
}

/** Puts a method on one object, unseen when the object is printed. */
export function putMethod(owner: object, name: string, method: unknown): void {
  Object.defineProperty(owner, name, { value: method, writable: true, configurable: true })
}

/**
 * A connection outlives the request that opened it: what the client later does on its own (a reconnect, a ping) must
 * not bear that request's ID.
 */
export function outsideRequest<T>(run: () => T): T {
  return contextStorage.run(undefined as unknown as RequestContext, run)
}

/** Sends one command, with its span where a request is active. */
export function sendTraced<T>(
  kv: WrappedKv,
  command: SentCommand,
  send: () => T | Promise<T>,
): T | Promise<T> {
  const call = openSent(kv, command)
  if (call === undefined) return send()
  return settled(
    call,
    () => unannounced(send),
    (reply) => watchReply(call, kv, command, reply),
  )
}

/** Sends a batch as one span. `repliesOf` finds the reply of each command in the answer, if they are not the answer. */
export function sendBatchTraced<T>(
  kv: WrappedKv,
  operation: 'MULTI' | 'PIPELINE',
  commands: readonly SentCommand[],
  send: () => Promise<T>,
  repliesOf: (answer: T) => unknown = (answer) => answer,
): Promise<T> {
  const call = openBatch(kv, operation, commands.length)
  if (call === undefined) return send()
  return settled(
    call,
    () => unannouncedBatch(send),
    (answer) => watchReplies(call, kv, commands, repliesOf(answer)),
  )
}

/** The call of one command, or undefined where it gets no span. */
export function openSent(kv: WrappedKv, [name]: SentCommand, startedAt?: number): OpenCall | undefined {
  const requestContext = tryGetContext()
  if (requestContext === undefined) return undefined
  const operation = nameOf(name)
  return isHandshake(operation) ? undefined : openCommand(requestContext, operation, kv.place(), startedAt)
}

/** The call of a batch, or undefined outside a request. */
export function openBatch(
  kv: WrappedKv,
  operation: 'MULTI' | 'PIPELINE',
  batchSize: number,
  startedAt?: number,
): OpenCall | undefined {
  const requestContext = tryGetContext()
  if (requestContext === undefined) return undefined
  return openCommand(requestContext, operation, { ...kv.place(), batchSize }, startedAt)
}

/** Looks for a recipe in what came back for a command. A reply that is an error fails the call. */
export function watchReply(call: OpenCall, kv: WrappedKv, [name, key]: SentCommand, reply: unknown): void {
  if (reply instanceof Error) {
    failCall(call, reply)
    return
  }
  const text = keyText(key)
  if (text === undefined || !kv.isIdempotencyKey(text)) return
  watchRecipe(call.span, { command: nameOf(name), key: text, reply }, kv.client)
}

export function watchReplies(
  call: OpenCall,
  kv: WrappedKv,
  commands: readonly SentCommand[],
  replies: unknown,
): void {
  // A transaction that was given up after WATCH has none.
  if (!Array.isArray(replies)) return
  for (const [index, command] of commands.entries()) watchReply(call, kv, command, replies[index])
}

/** Low cardinality: a word such as `GET` or `JSON.GET`, whatever was sent. */
export function nameOf(name: unknown): string {
  return /^[A-Za-z][\w.]{0,29}$/.exec(String(name))?.[0].toUpperCase() ?? 'COMMAND'
}

async function settled<T>(
  call: OpenCall,
  send: () => T | Promise<T>,
  onReply: (reply: T) => void,
): Promise<T> {
  try {
    const reply = await send()
    onReply(reply)
    return reply
  } catch (error) {
    failCall(call, error)
    throw error
  } finally {
    closeCall(call)
  }
}
