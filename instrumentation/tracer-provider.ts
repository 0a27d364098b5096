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
  isSpanContextValid,
  type Span,
  type SpanOptions,
  type Tracer,
  type TracerOptions,
  type TracerProvider,
  trace,
} from '@opentelemetry/api'
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
  return {
    getTracer: (name: string, version?: string, options?: TracerOptions) =>
      new CorrelatedTracer(provider.getTracer(name, version, options), nextInternals),
  }
}

class CorrelatedTracer implements Tracer {
  constructor(
    private readonly tracer: Tracer,
    private readonly nextInternals: boolean,
  ) {}

  startSpan(name: string, options: SpanOptions = {}, parentContext: Context = context.active()): Span {
    const inTree = options.root === true ? parentContext : inRequest(parentContext)
    if (!this.nextInternals && isNextInternalStep(options.attributes)) {
      // Not started at all: what it would have parented goes to its own parent, so nothing is orphaned.
      return trace.wrapSpanContext(trace.getSpanContext(inTree) ?? INVALID_SPAN_CONTEXT)
    }
    const span = this.tracer.startSpan(name, options, inTree)
    adoptSpan(span)
    if (options.attributes?.[ATTRIBUTE.nextSpanType] === NEXT_REQUEST) noteRouteSpan(span)
    return span
  }

  startActiveSpan<F extends (span: Span) => ReturnType<F>>(...args: [string, ...unknown[]]): ReturnType<F> {
    const [name] = args
    const fn = args.at(-1) as F
    const options = (args.length > 2 ? args[1] : {}) as SpanOptions
    const parentContext = (args.length > 3 ? args[2] : context.active()) as Context
    const span = this.startSpan(name, options, parentContext)
    return context.with(trace.setSpan(parentContext, span), fn, undefined, span)
  }
}

// Next starts two spans without a parent for a proxied request, one around the proxy and one around the
// render. The second is hung under the first, so that a request is one tree. So is the child of a left-out
// step that had no parent: that one's IDs are invalid.
function inRequest(parentContext: Context): Context {
  const parent = trace.getSpanContext(parentContext)
  if (parent !== undefined && isSpanContextValid(parent)) return parentContext
  const firstSpan = tryGetContext()?.firstSpan
  return firstSpan === undefined ? parentContext : trace.setSpan(parentContext, firstSpan)
}

function noteRouteSpan(span: Span): void {
  const requestContext = tryGetContext()
  if (requestContext !== undefined) requestContext.routeSpan = span
}

function isNextInternalStep(attributes: Attributes | undefined): boolean {
  const type = attributes?.[ATTRIBUTE.nextSpanType]
  return typeof type === 'string' && NEXT_INTERNAL_STEPS.has(type)
}
