/**
 * Puts our ID on every span of whichever provider is registered, through the public Tracer interface: ours,
 * `@vercel/otel`'s, or one the user set up. An SDK's own processor list can only be given, not extended,
 * without giving up its configuration by `OTEL_*` variables.
 */
import {
  type Attributes,
  type Context,
  context,
  INVALID_SPAN_CONTEXT,
  INVALID_SPANID,
  type Span,
  type SpanOptions,
  type Tracer,
  type TracerOptions,
  type TracerProvider,
  trace,
} from '@opentelemetry/api'
import { describeSql, type SqlDialect } from '../src/clients/database/sql-text.js'
import { tryGetContext } from '../src/context/index.js'
import { ATTRIBUTE } from '../src/telemetry/names.js'
import { adoptSpan } from '../src/telemetry/request-span.js'

/**
 * Steps inside Next that start a span but tell a reader nothing: about half of a request's spans
 * (next/dist/server/lib/trace/constants.js, 16.4).
 */
const NEXT_INTERNAL_STEPS = new Set([
  'LoadComponents.loadRouteModule',
  'RouteModule.prepare',
  'AppRouteRouteModule.loadUserland',
  'NextNodeServer.findPageComponents',
  'NextNodeServer.getLayoutOrPageModule',
  'NextNodeServer.createComponentTree',
  'NextNodeServer.startResponse',
  'NextNodeServer.clientComponentLoading',
  'Instrumentation.loadModule',
  'Instrumentation.register',
])

/** The span Next starts around a request, and names after its route. */
const NEXT_REQUEST = 'BaseServer.handleRequest'

/** Returns a provider whose tracers stamp the correlation ID. */
export function correlateProvider(
  provider: TracerProvider,
  { nextInternals }: { nextInternals: boolean },
): TracerProvider {
  // Next asks for its tracer at every span, and wraps each tracer that it has not seen before.
  const tracers = new Map<string, CorrelatedTracer>()
  return {
    ...lifecycleOf(provider),
    getTracer(name: string, version?: string, options?: TracerOptions) {
      const isPlain = version === undefined && options === undefined
      const key = isPlain ? name : `${name}@${version ?? ''}@${options?.schemaUrl ?? ''}`
      let tracer = tracers.get(key)
      if (tracer === undefined) {
        tracer = new CorrelatedTracer(provider.getTracer(name, version, options), nextInternals)
        tracers.set(key, tracer)
      }
      return tracer
    },
  }
}

// Beside the API's one method, an SDK's provider has these, and platforms call them.
function lifecycleOf(provider: TracerProvider): Partial<Record<'forceFlush' | 'shutdown', () => unknown>> {
  const { forceFlush, shutdown } = provider as { forceFlush?(): unknown; shutdown?(): unknown }
  return {
    ...(forceFlush === undefined ? {} : { forceFlush: () => forceFlush.call(provider) }),
    ...(shutdown === undefined ? {} : { shutdown: () => shutdown.call(provider) }),
  }
}

class CorrelatedTracer implements Tracer {
  constructor(
    private readonly tracer: Tracer,
    private readonly nextInternals: boolean,
  ) {}

  startSpan(name: string, options: SpanOptions = {}, parentContext: Context = context.active()): Span {
    const inTree = options.root === true ? parentContext : inRequest(parentContext)
    noteRoute(options.attributes)
    return this.isLeftOut(options) ? standIn(inTree) : this.start(name, options, inTree)
  }

  startActiveSpan<F extends (span: Span) => ReturnType<F>>(...args: [string, ...unknown[]]): ReturnType<F> {
    const [name] = args
    const fn = args.at(-1) as F
    const options = (args.length > 2 ? args[1] : {}) as SpanOptions
    const parentContext = (args.length > 3 ? args[2] : context.active()) as Context
    const inTree = options.root === true ? parentContext : inRequest(parentContext)
    noteRoute(options.attributes)
    if (this.isLeftOut(options)) {
      // The span around it stays the active one: what the step's code says of its span is kept there.
      const run = () => fn(standIn(inTree))
      return inTree === context.active() ? run() : context.with(inTree, run)
    }
    const span = this.start(name, options, inTree)
    return context.with(trace.setSpan(inTree, span), fn, undefined, span)
  }

  private isLeftOut({ attributes }: SpanOptions): boolean {
    return !this.nextInternals && isNextInternalStep(attributes)
  }

  private start(name: string, options: SpanOptions, parentContext: Context): Span {
    const type = options.attributes?.[ATTRIBUTE.nextSpanType]
    const span =
      type === undefined
        ? this.tracer.startSpan(name, withoutLiterals(name, options), parentContext)
        : this.tracer.startSpan(withoutQuery(name), withoutQueries(options), parentContext)
    adoptSpan(span)
    if (type === NEXT_REQUEST) noteRouteSpan(span)
    return span
  }
}

// For a step that is left out: a span that records nothing and has its parent's IDs, so that what hangs
// under it hangs under its parent, and nothing is orphaned.
function standIn(parentContext: Context): Span {
  return trace.wrapSpanContext(trace.getSpanContext(parentContext) ?? INVALID_SPAN_CONTEXT)
}

// Next starts two spans without a parent for a proxied request, one around the proxy and one around the
// render. The second is hung under the first, so that a request is one tree. So is the child of a left-out
// step that had no parent: that one's IDs are invalid.
function inRequest(parentContext: Context): Context {
  const parent = trace.getSpanContext(parentContext)
  if (parent !== undefined && parent.spanId !== INVALID_SPANID) return parentContext
  const firstSpan = tryGetContext()?.firstSpan
  return firstSpan === undefined ? parentContext : trace.setSpan(parentContext, firstSpan)
}

/** Where Next writes a whole URL: of the request, and of a fetch, also as its name. */
const URL_ATTRIBUTES = ['http.target', 'http.url', 'next.span_name']

// A query may hold a token or somebody's address: it is the app's to show, not Next's.
function withoutQueries(options: SpanOptions): SpanOptions {
  const attributes = { ...options.attributes }
  for (const name of URL_ATTRIBUTES) {
    const url = attributes[name]
    if (typeof url === 'string') attributes[name] = withoutQuery(url)
  }
  return { ...options, attributes }
}

/** Prisma's name for a database, where it is not that of the dialect. */
const PRISMA_DIALECTS: Record<string, SqlDialect> = { mysql: 'mysql', mariadb: 'mysql', sqlite: 'sqlite' }

// Prisma shows a raw query as it was written, literals and all.
function withoutLiterals(name: string, options: SpanOptions): SpanOptions {
  if (!name.startsWith('prisma:')) return options
  const text = options.attributes?.[ATTRIBUTE.dbQueryText]
  if (typeof text !== 'string') return options
  const system = options.attributes?.[ATTRIBUTE.dbSystem] ?? options.attributes?.['db.system']
  const dialect = PRISMA_DIALECTS[String(system)] ?? 'postgresql'
  return {
    ...options,
    attributes: { ...options.attributes, [ATTRIBUTE.dbQueryText]: describeSql(text, dialect).text },
  }
}

function withoutQuery(text: string): string {
  const query = text.indexOf('?')
  return query < 0 ? text : text.slice(0, query)
}

function noteRouteSpan(span: Span): void {
  const requestContext = tryGetContext()
  if (requestContext !== undefined) requestContext.routeSpan = span
}

// Next writes the route on its request span as that ends; its steps name it before the app's code runs.
function noteRoute(attributes: Attributes | undefined): void {
  const route = attributes?.[ATTRIBUTE.nextRoute]
  if (typeof route !== 'string') return
  const requestContext = tryGetContext()
  if (requestContext !== undefined) requestContext.route = route
}

function isNextInternalStep(attributes: Attributes | undefined): boolean {
  const type = attributes?.[ATTRIBUTE.nextSpanType]
  return typeof type === 'string' && NEXT_INTERNAL_STEPS.has(type)
}
