import { context, type Span, trace } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { correlateProvider } from '../../instrumentation/tracer-provider.ts'
import { createContext, getContext, runInContext, runWithCorrelation } from '../../src/context/index.ts'
import { correlationIdGenerator } from '../../src/telemetry/sdk-pieces.ts'

const exporter = new tracing.InMemorySpanExporter()
const provider = new node.NodeTracerProvider({
  idGenerator: correlationIdGenerator(),
  spanProcessors: [new tracing.SimpleSpanProcessor(exporter)],
})
// Registered for its context manager; the tracers under test are the decorated ones.
provider.register()
const tracer = correlateProvider(provider, { nextInternals: false }).getTracer('test')
const fullTracer = correlateProvider(provider, { nextInternals: true }).getTracer('test')

const internalStep = { attributes: { 'next.span_type': 'NextNodeServer.startResponse' } }
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'

beforeEach(() => exporter.reset())

describe('correlateProvider', () => {
  it('puts the correlation ID on every span of a request, and on no other', () => {
    runWithCorrelation('order-7', () => {
      tracer.startActiveSpan('request', (request) => {
        tracer.startActiveSpan('render', { attributes: { a: 1 } }, (render) => {
          tracer.startActiveSpan('query', {}, context.active(), (query) => query.end())
          render.end()
        })
        tracer.startSpan('fetch').end()
        request.end()
      })
    })
    tracer.startSpan('start-up').end()
    const ids = finished().map((span) => [span.name, span.attributes['correlation.id']])
    expect(Object.fromEntries(ids)).toEqual({
      request: 'order-7',
      render: 'order-7',
      query: 'order-7',
      fetch: 'order-7',
      'start-up': undefined,
    })
    expect(parentOf('query')).toBe('render')
    expect(spanNamed('render').attributes.a).toBe(1)
  })

  it("gives a request's first span the request's trace ID", () => {
    runWithCorrelation(TRACE_ID, () => tracer.startSpan('request').end())
    expect(spanNamed('request').spanContext().traceId).toBe(TRACE_ID)
    expect(spanNamed('request').parentSpanContext).toBeUndefined()
  })

  it('keeps the query of a URL out of the spans that Next makes', () => {
    const attributes = {
      'next.span_type': 'AppRender.fetch',
      'http.url': 'http://a/b?token=secret',
      other: 'a?b',
    }
    tracer.startSpan('fetch GET http://a/b?token=secret', { attributes }).end()
    expect(spanNamed('fetch GET http://a/b').attributes).toEqual({ ...attributes, 'http.url': 'http://a/b' })
    tracer.startSpan('mine?', { attributes: { 'http.target': '/a?b' } }).end()
    expect(spanNamed('mine?').attributes['http.target']).toBe('/a?b')
  })

  it('keeps the literals of a raw query out of the spans that Prisma makes', () => {
    const attributes = {
      'db.system': 'postgresql',
      'db.query.text': "SELECT 'secret' /*correlation_id='a'*/",
    }
    tracer.startSpan('prisma:client:db_query', { attributes }).end()
    expect(spanNamed('prisma:client:db_query').attributes['db.query.text']).toBe('SELECT ?')
  })

  it('returns what the function of an active span returns', () => {
    expect(tracer.startActiveSpan('a', () => 1)).toBe(1)
    expect(tracer.startActiveSpan('b', {}, () => 2)).toBe(2)
    expect(tracer.startActiveSpan('c', {}, context.active(), () => 3)).toBe(3)
  })

  it('hangs a second span without parent under the first of its request', () => {
    runWithCorrelation(TRACE_ID, () => {
      tracer.startSpan('proxy').end()
      tracer.startActiveSpan('render', (render) => {
        tracer.startSpan('query').end()
        render.end()
      })
    })
    expect(parentOf('render')).toBe('proxy')
    expect(parentOf('query')).toBe('render')
    expect(new Set(finished().map((span) => span.spanContext().traceId))).toEqual(new Set([TRACE_ID]))
  })

  it('does not hang spans of one request under those of another', () => {
    runWithCorrelation('first', () => tracer.startSpan('first').end())
    runWithCorrelation('second', () => tracer.startSpan('second').end())
    tracer.startSpan('third').end()
    expect(finished().map((span) => span.parentSpanContext)).toEqual([undefined, undefined, undefined])
  })

  it('leaves a span that asks to be a root without parent', () => {
    runWithCorrelation('order-7', () => {
      tracer.startActiveSpan('request', (request) => {
        tracer.startSpan('job', { root: true }).end()
        request.end()
      })
    })
    expect(spanNamed('job').parentSpanContext).toBeUndefined()
    expect(spanNamed('job').attributes['correlation.id']).toBe('order-7')
  })

  it("remembers the span that Next names after the route, which is not always the request's first", () => {
    const handleRequest = { attributes: { 'next.span_type': 'BaseServer.handleRequest' } }
    runWithCorrelation('order-7', () => {
      const proxy = tracer.startSpan('proxy')
      const render = tracer.startSpan('GET', handleRequest)
      expect(getContext().firstSpan).toBe(proxy)
      expect(getContext().routeSpan).toBe(render)
    })
  })
})

describe("Next's internal steps", () => {
  it('are left out, and their children go to the next span above', () => {
    runWithCorrelation('order-7', () => {
      tracer.startActiveSpan('request', (request) => {
        tracer.startActiveSpan('start response', internalStep, (step) => {
          step.setAttribute('a', 1)
          tracer.startActiveSpan('resolve', internalStep, (inner) => {
            tracer.startSpan('query').end()
            inner.end()
          })
          step.end()
        })
        request.end()
      })
    })
    expect(finished().map((span) => span.name)).toEqual(['query', 'request'])
    expect(parentOf('query')).toBe('request')
    expect(spanNamed('request').attributes).not.toHaveProperty('a')
  })

  it('do not become the first span of a request', () => {
    runWithCorrelation(TRACE_ID, () => {
      tracer.startActiveSpan('start response', internalStep, (step) => {
        tracer.startSpan('query').end()
        step.end()
      })
    })
    expect(finished().map((span) => span.name)).toEqual(['query'])
    expect(spanNamed('query').parentSpanContext).toBeUndefined()
    expect(spanNamed('query').spanContext().traceId).toBe(TRACE_ID)
  })

  it('do not tear their children off the tree when they have no parent themselves', () => {
    runWithCorrelation('order-7', () => {
      tracer.startSpan('proxy').end()
      tracer.startActiveSpan('start response', internalStep, (step) => {
        tracer.startSpan('query').end()
        step.end()
      })
    })
    expect(parentOf('query')).toBe('proxy')
  })

  it('are kept with nextInternals', () => {
    runWithCorrelation('order-7', () => {
      fullTracer.startActiveSpan('request', (request) => {
        fullTracer.startActiveSpan('start response', internalStep, (step) => {
          fullTracer.startSpan('query').end()
          step.end()
        })
        request.end()
      })
    })
    expect(parentOf('query')).toBe('start response')
    expect(parentOf('start response')).toBe('request')
  })

  it('leave one tree with every other span in it, however they are nested', () => {
    interface Step {
      isInternal: boolean
      isParentless: boolean
      steps: Step[]
    }
    const stepsOf = (depth: number): fc.Arbitrary<Step[]> =>
      fc.array(
        fc.record({
          isInternal: fc.boolean(),
          isParentless: fc.boolean(),
          steps: depth === 1 ? fc.constant([]) : stepsOf(depth - 1),
        }),
        { maxLength: 3 },
      )
    fc.assert(
      fc.property(stepsOf(4), (tree) => {
        exporter.reset()
        let kept = 0
        const run = ({ isInternal, isParentless, steps: inner }: Step) => {
          if (!isInternal) kept += 1
          const options = isInternal ? internalStep : {}
          const parent = isParentless ? trace.deleteSpan(context.active()) : context.active()
          tracer.startActiveSpan('step', options, parent, (span) => {
            inner.forEach(run)
            span.end()
          })
        }
        runWithCorrelation(TRACE_ID, () => tree.forEach(run))
        const spans = finished()
        expect(spans).toHaveLength(kept)
        const ids = new Set(spans.map((span) => span.spanContext().spanId))
        const roots = spans.filter((span) => !ids.has(span.parentSpanContext?.spanId ?? ''))
        expect(roots.map((span) => span.parentSpanContext)).toEqual(kept === 0 ? [] : [undefined])
      }),
    )
  })
})

describe('the first span of a request', () => {
  it('stays open while the response is, and ends when told to', () => {
    runInContext(createContext({ correlationId: 'order-7', traceId: TRACE_ID }), () => {
      const requestContext = getContext()
      requestContext.isResponseOpen = true
      const first = tracer.startSpan('proxy')
      first.end()
      expect(first.isRecording()).toBe(true)
      first.setAttribute('http.route', '/orders/[id]')
      const second = tracer.startSpan('render')
      second.end()
      expect(finished().map((span) => span.name)).toEqual(['render'])

      requestContext.isResponseOpen = false
      requestContext.endFirstSpan?.()
      expect(first.isRecording()).toBe(false)
      expect(spanNamed('proxy').attributes['http.route']).toBe('/orders/[id]')
    })
  })

  it('ends at once when the response is closed already, or there is none', () => {
    runInContext(createContext({ correlationId: 'order-7', traceId: TRACE_ID }), () => {
      getContext().isResponseOpen = true
      const late = tracer.startSpan('late')
      getContext().isResponseOpen = false
      late.end()
      expect(getContext().endFirstSpan).toBeUndefined()
    })
    runWithCorrelation('script', () => tracer.startSpan('script').end())
    expect(finished().map((span) => span.name)).toEqual(['late', 'script'])
  })

  it('can be ended with a time of its own', () => {
    const endTime = new Date(Date.now() + 5_000)
    const span: Span = runWithCorrelation('script', () => tracer.startSpan('script'))
    span.end(endTime)
    expect(spanNamed('script').endTime[0]).toBe(Math.floor(endTime.getTime() / 1000))
  })
})

function finished(): tracing.ReadableSpan[] {
  return exporter.getFinishedSpans()
}

function spanNamed(name: string): tracing.ReadableSpan {
  const span = finished().find((candidate) => candidate.name === name)
  if (span === undefined) throw new Error(`There is no span "${name}".`)
  return span
}

function parentOf(name: string): string | undefined {
  const { parentSpanContext } = spanNamed(name)
  return finished().find((span) => span.spanContext().spanId === parentSpanContext?.spanId)?.name
}
