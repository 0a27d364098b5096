/**
 * `@upstash/redis` and `@vercel/kv`: a span for each REST call, hit flags, and the request's ID on the call, by
 * one line, because they announce nothing. On their public hook, `use`.
 *
 * The client sends commands of one turn as one pipeline (`enableAutoPipelining`, its default), also those of
 * requests that run at once: such a call is shown in the request whose command came first.
 */
import { DEFAULT_CORRELATION_HEADER, type RequestContext, tryGetContext } from '../../context/index.js'
import { traceparentOf } from '../../telemetry/sdk-pieces.js'
import { closeCall, failCall, type OpenCall } from '../client-span.js'
import { type CommandPlace, openCommand } from './command-span.js'
import { type InstrumentKvOptions, nameOf } from './command-wrap.js'
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
  client.use((request: RestRequest, next: Send) => {
    const requestContext = tryGetContext()
    return requestContext === undefined
      ? next(request)
      : sendTraced(request, next, requestContext, place, isIdempotencyKey)
  })
  return client
}

async function sendTraced(
  request: RestRequest,
  next: Send,
  requestContext: RequestContext,
  place: CommandPlace,
  isIdempotencyKey: KeyTest,
): Promise<unknown> {
  const commands = commandsOf(request)
  const [only] = commands
  const isBatch = commands.length > 1
  const operation = isBatch ? (request.path?.[0] === 'multi-exec' ? 'MULTI' : 'PIPELINE') : nameOf(only?.[0])
  const command = openCommand(requestContext, operation, {
    ...place,
    batchSize: isBatch ? commands.length : undefined,
  })
  const traceparent = traceparentOf(command.span)
  const headers = {
    ...request.headers,
    [DEFAULT_CORRELATION_HEADER]: requestContext.correlationId,
    ...(traceparent === undefined ? {} : { traceparent }),
  }
  try {
    const reply = await next({ ...request, headers })
    const replies = Array.isArray(reply) ? reply : [reply]
    for (const [index, sent] of commands.entries()) watch(command, sent, replies[index], isIdempotencyKey)
    return reply
  } catch (error) {
    failCall(command, error)
    throw error
  } finally {
    closeCall(command)
  }
}

function commandsOf({ path, body }: RestRequest): unknown[][] {
  const isList = path?.[0] === 'pipeline' || path?.[0] === 'multi-exec'
  const commands: unknown = isList ? body : [body]
  return Array.isArray(commands) ? commands.filter((command) => Array.isArray(command)) : []
}

function watch(call: OpenCall, command: unknown[], reply: unknown, isIdempotencyKey: KeyTest): void {
  const { result, error } = (reply ?? {}) as { result?: unknown; error?: string }
  if (error !== undefined) {
    failCall(call, new Error(error))
    return
  }
  const key = command[1]
  if (typeof key !== 'string' || !isIdempotencyKey(key)) return
  watchRecipe(call.span, { command: nameOf(command[0]), key, reply: result }, 'upstash')
}

/** Where the client sends to; unknown in a version that keeps it elsewhere. */
function placeOf(client: object): CommandPlace {
  const { client: http } = client as { client?: { baseUrl?: unknown } }
  const baseUrl = http?.baseUrl
  if (typeof baseUrl !== 'string' || !URL.canParse(baseUrl)) return {}
  const url = new URL(baseUrl)
  return { serverAddress: url.hostname, serverPort: url.port === '' ? undefined : Number(url.port) }
}
