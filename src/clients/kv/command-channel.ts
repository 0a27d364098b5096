/**
 * Spans for the commands a KV client announces on its `diagnostics_channel`. This reaches a client that
 * Next has bundled, where a require hook would see nothing.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import type { Span } from '@opentelemetry/api'
import {
  contextStorage,
  processWide,
  type RequestContext,
  runInContext,
  tryGetContext,
} from '../../context/index.js'
import { announcementsOf } from '../announcements.js'
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { showConnectFailure } from '../connect-failure.js'
import { isHandshake, openCommand } from './command-span.js'
import type { KeyTest } from './key-patterns.js'
import { watchRecipe } from './recipe.js'

/** A message on the command or batch channel: the part that ioredis 6 and node-redis 6 share. */
export interface ChannelMessage {
  command?: string
  args?: readonly string[]
  database?: number
  serverAddress?: string
  serverPort?: number
  /** `MULTI` or `PIPELINE`: the command runs inside a batch, or the message is the batch itself. */
  batchMode?: string
  batchSize?: number
  /** Set by the tracing channel when the command has settled. */
  result?: unknown
  error?: unknown
  /** Set by us while the command is under way. A WeakMap beside it would cost the collector more. */
  [OPEN]?: OpenCall | undefined
}

const OPEN = Symbol('throughline.open-command')

/** A message on the connect channel. */
interface ConnectMessage {
  serverAddress?: string
  serverPort?: number
  error?: unknown
  [OPENER]?: { requestContext: RequestContext | undefined; startedAt: number }
}

const OPENER = Symbol('throughline.opener')

/** The batch within which a command is sent: it has the span. */
const currentBatch = processWide('clients.kv.batch', () => new AsyncLocalStorage<object>())

const { areKnown, unannounced } = announcementsOf('kv')

export { unannounced }

/** The same for a batch, whose commands may be sent later. */
export function unannouncedBatch<T>(send: () => T): T {
  return currentBatch.run({}, () => unannounced(send))
}

/** How one client library's channels are read. */
export interface KvChannels {
  /** For the counter: `ioredis`, `node-redis`. */
  client: string
  command: string
  batch: string
  connect: string
  /** The command's arguments, without its name. */
  argumentsOf(message: ChannelMessage): readonly string[]
}

/**
 * Subscribes to one client's channels, once per process. Commands outside a request get no span.
 *
 * @param isIdempotencyKey which keys belong to a hand-written recipe; a second caller's are added
 */
export function traceKvChannels(channels: KvChannels, isIdempotencyKey: KeyTest): void {
  const keyTests = processWide(`clients.kv.channels.${channels.client}`, () => new Set<KeyTest>())
  const isSubscribed = keyTests.size > 0
  keyTests.add(isIdempotencyKey)
  if (!isSubscribed) subscribe(channels, (key) => isKeyOfAny(keyTests, key))
}

function isKeyOfAny(keyTests: ReadonlySet<KeyTest>, key: string): boolean {
  for (const isKey of keyTests) if (isKey(key)) return true
  return false
}

function subscribe(channels: KvChannels, isIdempotencyKey: KeyTest): void {
  const start = (message: ChannelMessage, isBatch: boolean) => {
    const requestContext = tryGetContext()
    if (requestContext === undefined || areKnown()) return
    const operation = isBatch ? (message.batchMode ?? 'BATCH') : (message.command ?? '').toUpperCase()
    const batch = currentBatch.getStore()
    if (batch !== undefined && batch !== message) return
    // node-redis marks a command of a batch; ioredis does not, and sends MULTI and EXEC as commands too.
    if (!isBatch && (message.batchMode !== undefined || isHandshake(operation))) return
    message[OPEN] = openCommand(requestContext, operation, message)
  }

  const end = (message: ChannelMessage) => {
    const command = message[OPEN]
    if (command === undefined) return
    message[OPEN] = undefined
    if (message.error === undefined) watchForRecipe(command.span, message)
    else failCall(command, message.error)
    closeCall(command)
  }

  const watchForRecipe = (span: Span, message: ChannelMessage) => {
    const key = channels.argumentsOf(message)[0]
    if (message.command === undefined || key === undefined || !isIdempotencyKey(key)) return
    watchRecipe(span, { command: message.command.toUpperCase(), key, reply: message.result }, channels.client)
  }

  // Each channel by itself: those that nobody listens to cost nothing.
  const commandChannel = tracingChannel<unknown, ChannelMessage>(channels.command)
  commandChannel.start.subscribe((message) => start(message as ChannelMessage, false))
  commandChannel.asyncEnd.subscribe((message) => end(message as ChannelMessage))
  const batchChannel = tracingChannel<unknown, ChannelMessage>(channels.batch)
  batchChannel.start.bindStore(currentBatch as AsyncLocalStorage<ChannelMessage>, (message) => message)
  batchChannel.start.subscribe((message) => start(message as ChannelMessage, true))
  batchChannel.asyncEnd.subscribe((message) => end(message as ChannelMessage))
  // A connection outlives the request that opened it. Without this, what the client later does on its own
  // (a reconnect, the queue it flushes) would bear that first request's ID.
  const connectChannel = tracingChannel<unknown, ConnectMessage>(channels.connect)
  connectChannel.start.bindStore(
    contextStorage as unknown as AsyncLocalStorage<ConnectMessage>,
    (message) => {
      message[OPENER] = { requestContext: tryGetContext(), startedAt: performance.now() }
      return undefined as unknown as ConnectMessage
    },
  )
  connectChannel.asyncEnd.subscribe((message) => {
    const { [OPENER]: opener, error, serverAddress, serverPort } = message as ConnectMessage
    if (opener?.requestContext === undefined || error === undefined) return
    const target = { system: 'redis', serverAddress, serverPort }
    const { startedAt } = opener
    runInContext(opener.requestContext, () => showConnectFailure({ kind: 'kv', target, startedAt }, error))
  })
}
