import { randomUUID } from 'node:crypto'
import { type Attributes, metrics, SpanStatusCode } from '@opentelemetry/api'
import { metrics as metricsSdk } from '@opentelemetry/sdk-node'
import { notFound, redirect } from 'next/navigation.js'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { getContext, runWithCorrelation, tryGetContext } from '../../src/context/index.ts'
import { action } from '../../src/next/action.ts'
import { ensureContext } from '../../src/next/ensure-context.ts'
import { CONTROL_FLOW, recordSpans, startSpan } from './action-spans.ts'
import { collectLogLines } from './log-lines.ts'

const { spanNamed } = recordSpans()
const lines = collectLogLines()
const metricReader = new metricsSdk.PeriodicExportingMetricReader({
  exporter: new metricsSdk.InMemoryMetricExporter(metricsSdk.AggregationTemporality.CUMULATIVE),
  exportIntervalMillis: 2 ** 30,
})
metrics.setGlobalMeterProvider(new metricsSdk.MeterProvider({ readers: [metricReader] }))

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'
const inRequest = <T>(fn: () => T): T => runWithCorrelation('order-7', fn)

describe('action', () => {
  it('keeps the signature and the result of its function', async () => {
    const add = async (a: number, b: string) => `${a}${b}`
    const wrapped = action('add', add)
    expectTypeOf(wrapped).toEqualTypeOf(add)
    expect(await inRequest(() => wrapped(1, 'b'))).toBe('1b')
  })

  it('shows itself on a span, a line and the first span of its request', async () => {
    await inRequest(() => {
      const request = startSpan('POST /')
      return action('createOrder', async () => getContext().action)().finally(() => request.end())
    })
    expect(spanNamed('action createOrder')).toMatchObject({
      attributes: {
        'next.server_action.name': 'createOrder',
        'action.outcome': 'ok',
        'correlation.id': 'order-7',
      },
      status: { code: SpanStatusCode.UNSET },
      events: [],
    })
    expect(spanNamed('POST /').attributes).toMatchObject({
      'next.server_action.name': 'createOrder',
      'action.outcome': 'ok',
    })
    expect(lines).toEqual([
      expect.objectContaining({
        level: 30,
        msg: 'action completed',
        action: 'createOrder',
        outcome: 'ok',
        duration_ms: expect.any(Number),
        correlation_id: 'order-7',
        trace_id: spanNamed('action createOrder').spanContext().traceId,
        span_id: spanNamed('action createOrder').spanContext().spanId,
      }),
    ])
  })

  it('is the active span of its function, and names its lines', async () => {
    await inRequest(async () => {
      const inner = await action('createOrder', async () => {
        const span = startSpan('query')
        span.end()
        return { parent: span, action: tryGetContext()?.action }
      })()
      expect(inner.action).toEqual({ name: 'createOrder' })
    })
    expect(spanNamed('query').parentSpanContext?.spanId).toBe(
      spanNamed('action createOrder').spanContext().spanId,
    )
  })

  it('keeps the file that the manifest named', async () => {
    await inRequest(async () => {
      getContext().action = { name: '$$RSC_SERVER_ACTION_0', file: 'app/actions.ts' }
      await action('createOrder', async () => {})()
      expect(getContext().action).toEqual({ name: 'createOrder', file: 'app/actions.ts' })
    })
  })

  it('leaves its name and outcome on the request when its function calls another action', async () => {
    const inner = action('reserveStock', async () => notFound())
    await inRequest(async () => {
      const request = startSpan('POST /')
      await action('createOrder', async () => {
        await inner().catch(() => {})
        expect(getContext().action?.name).toBe('createOrder')
      })()
      request.end()
      expect(getContext().action?.name).toBe('createOrder')
    })
    expect(spanNamed('POST /').attributes).toMatchObject({
      'next.server_action.name': 'createOrder',
      'action.outcome': 'ok',
    })
    expect(spanNamed('action reserveStock').attributes).toMatchObject({
      'next.server_action.name': 'reserveStock',
      'action.outcome': 'not_found',
    })
  })

  it.each(CONTROL_FLOW)('lets %s through as it is: an outcome, and no error', async (_, end, outcome) => {
    const thrown: unknown[] = []
    const guarded = action('createOrder', async () => {
      try {
        return end()
      } catch (error) {
        thrown.push(error)
        throw error
      }
    })
    expect(await inRequest(() => guarded().catch((error) => error))).toBe(thrown[0])
    expect(spanNamed('action createOrder')).toMatchObject({
      status: { code: SpanStatusCode.UNSET },
      events: [],
    })
    expect(spanNamed('action createOrder').attributes).toMatchObject({ 'action.outcome': outcome })
    expect(spanNamed('action createOrder').attributes).not.toHaveProperty('error.type')
    expect(lines).toEqual([expect.objectContaining({ level: 30, msg: 'action completed', outcome })])
  })

  it('rethrows an error as it is, and marks span and line', async () => {
    const error = new RangeError('no stock')
    const request = inRequest(() => {
      const span = startSpan('POST /')
      return action('createOrder', () => Promise.reject(error))().finally(() => span.end())
    })
    expect(await request.catch((thrown) => thrown)).toBe(error)
    expect(spanNamed('action createOrder')).toMatchObject({
      attributes: { 'action.outcome': 'error', 'error.type': 'RangeError' },
      status: { code: SpanStatusCode.ERROR, message: 'no stock' },
      events: [{ name: 'exception', attributes: { 'exception.message': 'no stock' } }],
    })
    expect(spanNamed('POST /').attributes['action.outcome']).toBe('error')
    expect(lines).toEqual([
      expect.objectContaining({
        level: 50,
        msg: 'action failed',
        action: 'createOrder',
        outcome: 'error',
        err: expect.objectContaining({ type: 'RangeError', message: 'no stock' }),
      }),
    ])
  })

  it.each([
    ['thrown before the first await', () => fail(new Error('no stock')), 'Error'],
    ['that is no Error', () => Promise.reject('no stock'), 'string'],
    ['whose digest is not one of Next', () => Promise.reject(withDigest('3141592653')), 'Error'],
    [
      'with a status that Next does not use',
      () => Promise.reject(withDigest('NEXT_HTTP_ERROR_FALLBACK;418')),
      'Error',
    ],
    ['that only mentions a redirect', () => Promise.reject(new Error('NEXT_REDIRECT;/')), 'Error'],
    ['whose digest is no text', () => Promise.reject({ digest: 404 }), 'object'],
  ])('takes a throw %s for an error', async (_, body, type) => {
    await inRequest(() => action('createOrder', body as () => Promise<void>)().catch(() => {}))
    expect(spanNamed('action createOrder').attributes).toMatchObject({
      'action.outcome': 'error',
      'error.type': type,
    })
    expect(spanNamed('action createOrder').status.code).toBe(SpanStatusCode.ERROR)
  })

  it('measures how long it took, in seconds, by name and outcome', async () => {
    const name = `measured-${randomUUID()}`
    await inRequest(async () => {
      await action(name, async () => {})()
      await action(name, async () => {})()
      await action(name, async () => redirect('/'))().catch(() => {})
    })
    const points = await durationsOf(name)
    expect(points.map(({ attributes, count }) => [attributes.outcome, count])).toEqual([
      ['ok', 2],
      ['redirect', 1],
    ])
    const loggedMs = (outcome: unknown) =>
      lines
        .filter((line) => line.outcome === outcome)
        .reduce((sum, line) => sum + Number(line.duration_ms), 0)
    // Lines round to hundredths of a millisecond.
    for (const { attributes, sum } of points) expect(sum * 1000).toBeCloseTo(loggedMs(attributes.outcome), 1)
  })

  it('keeps concurrent actions of different requests apart', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `action-${index}`)
    const seen = names.map((name) =>
      runWithCorrelation(name, () =>
        action(name, async () => {
          await new Promise((resolve) => setImmediate(resolve))
          return [getContext().correlationId, getContext().action?.name]
        })(),
      ),
    )
    expect(await Promise.all(seen)).toEqual(names.map((name) => [name, name]))
  })

  it.each([[''], ['create order'], ['a'.repeat(101)], ['order\n'], [undefined], [7], [null]])(
    'refuses %j for a name, and says which it got',
    (name) => {
      const wrap = () => action(name as string, async () => {})
      expect(wrap).toThrow(TypeError)
      expect(wrap).toThrow(`"name" must be 1–100 characters`)
      expect(wrap).toThrow(`received ${JSON.stringify(name)}.`)
    },
  )
})

describe('where no server hook opened a context', () => {
  it('one is made from the headers of the request, which are read once', async () => {
    const headers = new Headers({
      'x-correlation-id': 'order-8',
      traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01`,
    })
    let reads = 0
    const readHeaders = async () => {
      reads += 1
      return (name: string) => headers.get(name)
    }
    const inner = () => ensureContext(readHeaders, async () => getContext())
    const context = await ensureContext(readHeaders, inner)
    expect(context).toEqual({ correlationId: 'order-8', traceId: TRACE_ID, calls: {}, isOver: true })
    expect(reads).toBe(1)
    expect(tryGetContext()).toBeUndefined()
  })

  it('an active one is kept, and no header is read', async () => {
    const unread = () => expect.unreachable('It read the headers.')
    await inRequest(async () => {
      expect(await ensureContext(unread, async () => getContext())).toBe(getContext())
    })
  })
})

function fail(error: Error): never {
  throw error
}

function withDigest(digest: string): Error {
  return Object.assign(new Error('failed'), { digest })
}

async function durationsOf(name: string) {
  const { resourceMetrics } = await metricReader.collect()
  const found = resourceMetrics.scopeMetrics
    .flatMap((scope) => scope.metrics)
    .find(({ descriptor }) => descriptor.name === 'action.duration')
  expect(found?.descriptor.unit).toBe('s')
  const points = (found?.dataPoints ?? []) as {
    attributes: Attributes
    value: { count: number; sum: number }
  }[]
  return points
    .filter(({ attributes }) => attributes.action === name)
    .map(({ attributes, value }) => ({ attributes, ...value }))
}
