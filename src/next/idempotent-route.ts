/** `idempotentRoute`: a route handler that happens once per `Idempotency-Key`, and answers a repeat alike. */
import { type Span, trace } from '@opentelemetry/api'
import type { ThroughlineError } from '../errors.js'
import {
  type AnyStore,
  type IdempotencyStore,
  type RunOf,
  type RunOnceOptions,
  runOnce,
  type Scope,
} from '../idempotency/index.js'
import { SCOPE } from '../telemetry/names.js'
import { assertName } from './action.js'
import { CONTROL_FLOW } from './control-flow.js'
import { ensureContext } from './ensure-context.js'
import { IDEMPOTENCY_KEY_HEADER, parseIdempotencyKey } from './idempotency-key-header.js'
import { type LoggedRun, type RunSettings, withLog } from './logged-run.js'
import { problemResponse } from './problem.js'
import { isRefusal, showRefusal } from './refusal.js'
import { rememberThrow } from './remembered-throw.js'
import { replayResponse, type StoredResponse, storeResponse } from './stored-response.js'

/** How a route handler is guarded. */
export interface IdempotentRouteOptions<
  Incoming extends Request,
  Context,
  Store extends AnyStore = IdempotencyStore,
> extends Pick<RunOnceOptions<Store>, RunSettings> {
  store: Store
  /**
   * Whose key it is: a user's or tenant's ID, or `global()`. Another scope never sees the answer. To read the
   * body here, read a clone: the handler gets the same request.
   */
  scope: Scope | ((request: Incoming, context: Context) => Scope | undefined | Promise<Scope | undefined>)
  /** The key, where it is not in the `Idempotency-Key` header: `async (request) => (await request.clone().json()).id`. */
  key?: (request: Incoming, context: Context) => unknown
  /**
   * What the request asks for; the same key with another payload is refused. Default: method, path, query
   * and body, JSON and forms by their content. Called with a copy, whose body may be read.
   */
  payload?: (request: Request, context: Context) => unknown
  /** Headers to replay beside `content-type`, `location`, `link`, `etag` and their like. Never `set-cookie`. */
  replayHeaders?: readonly string[]
  /**
   * Which answers are results. Others are given once, and the next try runs again, unless effects were
   * marked; a store in the transaction rolls their writes back. Default: below 500.
   */
  isResult?: (response: Response) => boolean
  /** Seconds in `Retry-After` of a 409 or 503. Default 1. */
  retryAfterSeconds?: number
  /** Answers a refusal, instead of the problem details. */
  onRefused?: (error: ThroughlineError, request: Incoming) => Response | Promise<Response>
}

/**
 * Wraps a route handler so that it happens once per key. A repeat gets the first answer's status, body and
 * headers, and `idempotent-replayed: true`. The answer is read to its end before it is sent: do not stream.
 *
 * Refusals are problem details: 400 without a key, 409 while the first request is under way, 422 for another
 * payload, 503 when the store does not answer.
 *
 * @example
 * export const POST = idempotentRoute(
 *   'createPayment',
 *   { store, scope: (request) => accountOf(request) },
 *   async (run, request) => Response.json(await charge(await request.json()), { status: 201 }),
 * )
 */
export function idempotentRoute<
  Incoming extends Request = Request,
  Context = unknown,
  Store extends AnyStore = IdempotencyStore,
>(
  name: string,
  options: IdempotentRouteOptions<NoInfer<Incoming>, NoInfer<Context>, Store>,
  handler: (run: LoggedRun<NoInfer<Store>>, request: Incoming, context: Context) => Promise<Response>,
): (request: Incoming, context: Context) => Promise<Response> {
  assertName(name)
  return (request, context) =>
    ensureContext(
      async () => (header) => request.headers.get(header),
      () =>
        trace.getTracer(SCOPE).startActiveSpan(`route ${name}`, async (span) => {
          try {
            return await answerOnce(name, options, handler, request, context, span)
          } finally {
            span.end()
          }
        }),
    )
}

async function answerOnce<Incoming extends Request, Context, Store extends AnyStore>(
  name: string,
  options: IdempotentRouteOptions<Incoming, Context, Store>,
  handler: (run: LoggedRun<Store>, request: Incoming, context: Context) => Promise<Response>,
  request: Incoming,
  context: Context,
  span: Span,
): Promise<Response> {
  const { store, scope, key, payload, replayHeaders, isResult, retryAfterSeconds, onRefused, ...runOptions } =
    options
  const isKept = isResult ?? ((response: Response) => response.status < 500)
  let first: Response | undefined
  const remembered = rememberThrow(async (run: RunOf<Store>) => {
    first = await handler(withLog<Store>(run), request, context)
    if (!isKept(first)) throw new NotAResult()
    return await storeResponse(first.clone(), replayHeaders)
  })
  try {
    const stored: StoredResponse = await runOnce(
      store,
      {
        ...(runOptions as Pick<RunOnceOptions<Store>, RunSettings>),
        name,
        scope: typeof scope === 'function' ? await scope(request, context) : scope,
        key: key === undefined ? keyOf(request) : await key(request, context),
        keyFrom: key === undefined ? { header: 'Idempotency-Key' } : undefined,
        payload: await (payload ?? payloadOf)(request.clone(), context),
        thrown: CONTROL_FLOW,
      },
      remembered.body,
    )
    return first ?? replayResponse(stored)
  } catch (error) {
    // Given as it is, and run again by the next try.
    if (error instanceof NotAResult && first !== undefined && remembered.isThrownByBody(error)) return first
    if (!isRefusal(error) || remembered.isThrownByBody(error)) throw error
    showRefusal(span, error)
    return onRefused === undefined
      ? problemResponse(error, retryAfterSeconds ?? 1)
      : await onRefused(error, request)
  }
}

/** Thrown inside the run, so that it counts as failed. */
class NotAResult extends Error {}

function keyOf(request: Request): string | undefined {
  return parseIdempotencyKey(request.headers.get(IDEMPOTENCY_KEY_HEADER))
}

// A retry may write the same JSON in another order, and always has another boundary between form fields.
async function payloadOf(request: Request): Promise<unknown> {
  const { pathname, search } = new URL(request.url)
  return [request.method, pathname, search, await contentOf(request)]
}

async function contentOf(request: Request): Promise<unknown> {
  const type = request.headers.get('content-type') ?? ''
  const copy = request.clone()
  try {
    if (/^application\/(?:[\w.+-]+\+)?json\b/i.test(type)) return await request.json()
    if (/^(?:multipart\/form-data|application\/x-www-form-urlencoded)\b/i.test(type))
      return await request.formData()
  } catch {
    // Not what its type says: compared byte by byte.
  }
  return new Uint8Array(await copy.arrayBuffer())
}
