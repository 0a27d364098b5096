/**
 * `@upstash/redis` and `@vercel/kv`: a span for each REST call, hit flags, and the request's ID on the call, by
 * one line, because they announce nothing. On their public hook, `use`.
 *
 * The client sends commands of one turn as one pipeline (`enableAutoPipelining`, its default), also those of
 * requests that run at once: such a call is a span in each of them, and bears the ID of the one that asked first.
 */
import { type Context, context } from '@opentelemetry/api'
import {
  DEFAULT_CORRELATION_HEADER,
  type RequestContext,
  runInContext,
  tryGetContext,
} from '../../context/index.js'
import { traceparentOf } from '../../telemetry/sdk-pieces.js'
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { type CommandPlace, openCommand } from './command-span.js'
import { type InstrumentKvOptions, nameOf, putMethod } from './command-wrap.js'
import { type KeyTest, keyTestOf } from './key-patterns.js'
import { watchRecipe } from './recipe.js'

/** One REST call: the part that is read. */
interface RestRequest {
  /** `['pipeline']` or `['multi-exec']` for a list of commands; absent for one. */
  path?: string[]
  body?: unknown
  headers?: Record<string, string>
}

type Send = (request: RestRequest) => Promise<unknown>

/** `Redis` of `@upstash/redis` ≥1.34, or a client of `@vercel/kv` 3: the method called. */
export interface UpstashRestClient {
  // biome-ignore lint/suspicious/noExplicitAny: the client's own types of request and answer are wider.
  use(middleware: (request: any, next: any) => Promise<any>): void
}

export type { InstrumentKvOptions }

const instrumented = new WeakSet<UpstashRestClient>()

/**
 * Returns the same client, its calls traced. Outside a request they are left as they are.
 *
 * @throws {TypeError} for a client without the hook.
 * @example export const kv = instrumentKv(Redis.fromEnv())
 */
export function instrumentKv<Client extends UpstashRestClient>(
  client: Client,
  { idempotencyKeys }: InstrumentKvOptions = {},
): Client {
  if (typeof client?.use !== 'function') {
    throw new TypeError(
      'instrumentKv: "client" must be a client of @upstash/redis (>=1.34) or @vercel/kv (3).',
    )
  }
  if (instrumented.has(client)) return client
  instrumented.add(client)
  const isIdempotencyKey = keyTestOf(idempotencyKeys)
  const place = placeOf(client)
  rememberAskers(client)
  client.use((request: RestRequest, next: Send) => sendTraced(request, next, place, isIdempotencyKey))
  return client
}

/** Who asked for a command. */
interface Asker {
  requestContext: RequestContext | undefined
  active: Context
}

/** By the command's words, which the client hands to the hook as they are. */
const askers = new WeakMap<object, Asker>()

// A pipeline takes each command by its method `chain`, when the app calls the command's own; that of another version
// may not, and then nobody is remembered.
function rememberAskers(client: object): void {
  const { pipeline } = client as { pipeline?: (...args: unknown[]) => InnerPipeline }
  if (typeof pipeline !== 'function') return
  putMethod(client, 'pipeline', (...args: unknown[]) => {
    const made = pipeline.apply(client, args)
    const chain = made?.chain
    if (typeof chain !== 'function') return made
    putMethod(made, 'chain', (added: { command?: unknown }) => {
      if (Array.isArray(added?.command)) askers.set(added.command, currentAsker())
      return chain.call(made, added)
    })
    return made
  })
}

interface InnerPipeline {
  chain?(added: { command?: unknown }): unknown
}

function currentAsker(): Asker {
  return { requestContext: tryGetContext(), active: context.active() }
}

/** What one request has in a REST call. */
interface Part {
  asker: Asker & { requestContext: RequestContext }
  commands: { words: unknown[]; index: number; isCertain: boolean }[]
}

async function sendTraced(
  request: RestRequest,
  next: Send,
  place: CommandPlace,
  isIdempotencyKey: KeyTest,
): Promise<unknown> {
  const parts = partsOf(request)
  const calls = parts.map((part) => ({ ...part, call: inPart(part, () => openPart(part, request, place)) }))
  const [first] = calls
  if (first === undefined) return next(request)
  const traceparent = traceparentOf(first.call.span)
  const headers = {
    ...request.headers,
    [DEFAULT_CORRELATION_HEADER]: first.asker.requestContext.correlationId,
    ...(traceparent === undefined ? {} : { traceparent }),
  }
  try {
    const reply = await next({ ...request, headers })
    const replies = Array.isArray(reply) ? reply : [reply]
    for (const part of calls)
      inPart(part, () => {
        for (const command of part.commands)
          watch(part.call, command, replies[command.index], isIdempotencyKey)
      })
    return reply
  } catch (error) {
    for (const { call } of calls) failCall(call, error)
    throw error
  } finally {
    for (const { call } of calls) closeCall(call)
  }
}

function partsOf(request: RestRequest): Part[] {
  const current = currentAsker()
  const commands = commandsOf(request)
  const parts = new Map<RequestContext, Part>()
  for (const [index, words] of commands.entries()) {
    const known = askers.get(words)
    const asker = known ?? current
    const { requestContext } = asker
    if (requestContext === undefined) continue
    const part = parts.get(requestContext) ?? { asker: { ...asker, requestContext }, commands: [] }
    const isCertain = known !== undefined || commands.length === 1 || request.path?.[0] === 'multi-exec'
    part.commands.push({ words, index, isCertain })
    parts.set(requestContext, part)
  }
  return [...parts.values()]
}

function inPart<T>({ asker }: Part, run: () => T): T {
  return runInContext(asker.requestContext, () => context.with(asker.active, run))
}

function openPart({ asker, commands }: Part, { path }: RestRequest, place: CommandPlace): OpenCall {
  const isBatch = commands.length > 1
  const batchName = path?.[0] === 'multi-exec' ? 'MULTI' : 'PIPELINE'
  return openCommand(asker.requestContext, isBatch ? batchName : nameOf(commands[0]?.words[0]), {
    ...place,
    batchSize: isBatch ? commands.length : undefined,
  })
}

function commandsOf({ path, body }: RestRequest): unknown[][] {
  const isList = path?.[0] === 'pipeline' || path?.[0] === 'multi-exec'
  const commands: unknown = isList ? body : [body]
  return Array.isArray(commands) ? commands.filter((command) => Array.isArray(command)) : []
}

function watch(
  call: OpenCall,
  { words: [name, key], isCertain }: Part['commands'][number],
  reply: unknown,
  isIdempotencyKey: KeyTest,
): void {
  const { result, error } = (reply ?? {}) as { result?: unknown; error?: string }
  if (error !== undefined) {
    failCall(call, new Error(error))
    return
  }
  // A hit shown in the wrong request would be worse than none.
  if (!isCertain || typeof key !== 'string' || !isIdempotencyKey(key)) return
  watchRecipe(call.span, { command: nameOf(name), key, reply: result }, 'upstash')
}

/** Where the client sends to; unknown in a version that keeps it elsewhere. */
function placeOf(client: object): CommandPlace {
  const { client: http } = client as { client?: { baseUrl?: unknown } }
  const baseUrl = http?.baseUrl
  if (typeof baseUrl !== 'string' || !URL.canParse(baseUrl)) return {}
  const url = new URL(baseUrl)
  return { serverAddress: url.hostname, serverPort: url.port === '' ? undefined : Number(url.port) }
}
