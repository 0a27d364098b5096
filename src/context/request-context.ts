/**
 * The request context: one object per request, in the process's one `AsyncLocalStorage`.
 *
 * Entered by the server hook (`instrumentation/http-server.ts`), the wrappers in `next/`, a worker, or
 * `runWithCorrelation`. Never `enterWith`: a context must end where its request ends.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { Span } from '@opentelemetry/api'
import { ThroughlineError } from '../errors.js'
import { type Correlation, isCorrelationId, randomTraceId } from './correlation.js'
import { processWide } from './process-wide.js'

/** The kinds of outgoing call that the canonical request line sums. */
export type CallKind = 'database' | 'kv' | 'fetch'

/** How many calls of a kind were made, and for how long, in milliseconds. */
export interface CallTally {
  count: number
  durationMs: number
}

/** A Server Action, by the name it is exported under. */
export interface ActionIdentity {
  name: string
  /** Path from the project's root, where known. */
  file?: string
}

/** What one use of an idempotency key did, for the log line; never the key itself. */
export interface IdempotencyNote {
  outcome: string
  key_hash: string
  hit: boolean
  /** Hash of another key that brought the same payload a moment ago. */
  suspect_of?: string
  hits?: number
  /** Another request missed the key at the same time. */
  race?: boolean
}

/** What is known about the request that is being served. Only the mutable fields change, as Next tells more. */
export interface RequestContext {
  /** The one ID: on every span, log line, SQL statement and outgoing call. */
  readonly correlationId: string
  /** 32 hex digits; the trace ID that the request's first span takes. */
  readonly traceId: string
  /** HTTP method, when there is an HTTP request. */
  readonly method?: string
  /** Path without the query, when there is an HTTP request. */
  readonly path?: string
  /** Value of the `host` header; outgoing calls to it carry the ID. */
  readonly host?: string
  /** The route as Next names it, `/orders/[id]`, once known. */
  route?: string | undefined
  /** The Server Action being run, once known. */
  action?: ActionIdentity | undefined
  /** True while a wrapped action runs: one that it calls does not rename the request. */
  isActionRunning?: boolean
  /** The first span of the request: what a trace search looks at. */
  firstSpan?: Span | undefined
  /** When its first span started, on the clock of the system and on that of `performance.now()`. */
  clock?: { epochMs: number; nowMs: number }
  /** The span that Next names after the route; the first one, but for a proxied request. */
  routeSpan?: Span | undefined
  /** Where the server hook opened the context: true until the response is closed. */
  isResponseOpen?: boolean
  /** True once the response is closed, or the function has settled that the context was opened for. */
  isOver?: boolean
  /** Called when the context is over. */
  onClose?: (() => void)[]
  /** Ends the first span, where Next did so before the response was closed. */
  endFirstSpan?: (() => void) | undefined
  /** The last use of an idempotency key in this request. */
  idempotency?: IdempotencyNote | undefined
  /** Outgoing calls so far, by kind. */
  readonly calls: { [kind in CallKind]?: CallTally }
}

/** The process's one storage. Internal: use the functions below. */
export const contextStorage = processWide('context.storage', () => new AsyncLocalStorage<RequestContext>())

/** Builds a context. `extra` describes the HTTP request, when there is one. */
export function createContext(
  correlation: Pick<Correlation, 'correlationId' | 'traceId'>,
  extra: Pick<RequestContext, 'method' | 'path' | 'host' | 'action'> = {},
): RequestContext {
  return { correlationId: correlation.correlationId, traceId: correlation.traceId, ...extra, calls: {} }
}

/** Runs `fn`, and all that it starts, in the given context. */
export function runInContext<T>(context: RequestContext, fn: () => T): T {
  return contextStorage.run(context, fn)
}

/**
 * Runs `fn` in the given context, which is over when `fn` has returned, or its promise has settled.
 *
 * A promise with properties of its own, or of a class of its own, is handed back as it is, and its context stays open:
 * a query that is not sent before it is awaited must not be sent by us.
 */
export function runAndClose<T>(context: RequestContext, fn: () => T): T {
  let isPending = false
  try {
    const result = runInContext(context, fn)
    isPending = isThenable(result)
    return isPlainPromise(result) ? (closeAfter(context, result) as T) : result
  } finally {
    if (!isPending) closeContext(context)
  }
}

// Another promise, since a handler on the one that `fn` gave would hide that nobody handles its rejection.
async function closeAfter<T>(context: RequestContext, promise: Promise<T>): Promise<T> {
  try {
    return await promise
  } finally {
    closeContext(context)
  }
}

function isThenable(value: unknown): boolean {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}

function isPlainPromise(value: unknown): value is Promise<unknown> {
  return value instanceof Promise && value.constructor === Promise && Object.keys(value).length === 0
}

/** The context is over: what waits for that is told. */
export function closeContext(context: RequestContext): void {
  context.isOver = true
  for (const onClose of context.onClose?.splice(0) ?? []) onClose()
}

/** The active request context, or undefined: at module level, at build time, inside `'use cache'`. */
export function tryGetContext(): RequestContext | undefined {
  return contextStorage.getStore()
}

/**
 * The active request context.
 *
 * @throws {ThroughlineError} `CONTEXT_MISSING` where no request is active.
 */
export function getContext(): RequestContext {
  const context = tryGetContext()
  if (context !== undefined) return context
  throw new ThroughlineError('CONTEXT_MISSING', 'There is no active request context.', {
    why: "This code runs at build or module level, inside 'use cache' (where Next hides the request by design), or instrumentation.ts did not register.",
    fix: 'Call it while a request is being served, use tryGetContext(), or wrap the work in runWithCorrelation(id, fn).',
  })
}

/** The active correlation ID, or undefined where no request is active. */
export function getCorrelationId(): string | undefined {
  return tryGetContext()?.correlationId
}

/**
 * Runs `fn` under a correlation ID of your choice: scripts, queue consumers, tests.
 *
 * @param id 1–128 characters of `[A-Za-z0-9._:=+/@-]`
 * @throws {TypeError} for any other ID.
 * @example await runWithCorrelation(message.correlationId, () => handle(message))
 */
export function runWithCorrelation<T>(id: string, fn: () => T): T {
  if (!isCorrelationId(id)) {
    throw new TypeError(
      `runWithCorrelation: "id" must be 1–128 characters of A-Z a-z 0-9 . _ : = + / @ -, received ${describe(id)}.`,
    )
  }
  const traceId = /^(?!0+$)[0-9a-f]{32}$/.test(id) ? id : randomTraceId()
  return runAndClose(createContext({ correlationId: id, traceId }), fn)
}

/** Adds one finished call to the request's tally, if a request is active. */
export function countCall(context: RequestContext | undefined, kind: CallKind, durationMs: number): void {
  if (context === undefined) return
  context.calls[kind] ??= { count: 0, durationMs: 0 }
  const tally = context.calls[kind]
  tally.count += 1
  tally.durationMs += durationMs
}

// The value may come from a stranger, so an error names its type and length only.
function describe(value: unknown): string {
  return typeof value === 'string' ? `a string of ${value.length} characters` : typeof value
}
