import { randomUUID } from 'node:crypto'
import { type Attributes, metrics, SpanStatusCode } from '@opentelemetry/api'
import { metrics as metricsSdk, node, tracing } from '@opentelemetry/sdk-node'
import {
  forbidden,
  notFound,
  permanentRedirect,
  redirect,
  unauthorized,
  unstable_rethrow,
} from 'next/navigation.js'
import { afterEach, describe, expect, expectTypeOf, it } from 'vitest'
import { getContext, runWithCorrelation, tryGetContext } from '../../src/context/index.ts'
import { isThroughlineError, type ThroughlineError } from '../../src/errors.ts'
import { runOnce } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { action } from '../../src/next/action.ts'
import { ensureContext } from '../../src/next/ensure-context.ts'
import {
  type ActionRun,
  formField,
  type IdempotentActionOptions,
  idempotentAction,
} from '../../src/next/idempotent-action.ts'
import { correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'
import { collectLogLines } from './log-lines.ts'

// Next's own switch for forbidden() and unauthorized(): `experimental.authInterrupts`.
process.env.__NEXT_EXPERIMENTAL_AUTH_INTERRUPTS = 'true'

const spans = new tracing.InMemorySpanExporter()
new node.NodeTracerProvider({
  spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(spans)],
}).register()
const metricReader = new metricsSdk.PeriodicExportingMetricReader({
  exporter: new metricsSdk.InMemoryMetricExporter(metricsSdk.AggregationTemporality.CUMULATIVE),
  exportIntervalMillis: 2 ** 30,
})
metrics.setGlobalMeterProvider(new metricsSdk.MeterProvider({ readers: [metricReader] }))
const lines = collectLogLines()

afterEach(() => spans.reset())

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'
const inRequest = <T>(fn: () => T): T => runWithCorrelation('order-7', fn)

/** Each way in which Next lets an action end by a throw. */
const CONTROL_FLOW: [string, () => never, string][] = [
  ['redirect()', () => redirect('/thanks?id=7;8'), 'redirect'],
  ['permanentRedirect()', () => permanentRedirect('/thanks'), 'redirect'],
  ['notFound()', notFound, 'not_found'],
  ['forbidden()', forbidden, 'forbidden'],
  ['unauthorized()', unauthorized, 'unauthorized'],
]

describe('action', () => {
  it('keeps the signature and the result of its function', async () => {
    const add = async (a: number, b: string) => `${a}${b}`
    const wrapped = action('add', add)
    expectTypeOf(wrapped).toEqualTypeOf(add)
    expect(await inRequest(() => wrapped(1, 'b'))).toBe('1b')
  })

  it('shows itself on a span, a line and the first span of its request', async () => {
    await inRequest(() => {
      const request = startRequestSpan()
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

  it('leaves its name on the request when its function calls another action', async () => {
    const inner = action('reserveStock', async () => expect(getContext().action?.name).toBe('reserveStock'))
    await inRequest(async () => {
      const request = startRequestSpan()
      await action('createOrder', async () => {
        await inner()
        expect(getContext().action?.name).toBe('createOrder')
      })()
      request.end()
      expect(getContext().action?.name).toBe('createOrder')
    })
    expect(spanNamed('POST /').attributes['next.server_action.name']).toBe('createOrder')
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
      const span = startRequestSpan()
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
    // Ten minutes would be milliseconds taken for seconds.
    for (const { sum } of points) expect(sum).toBeLessThan(600)
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
    expect(context).toEqual({ correlationId: 'order-8', traceId: TRACE_ID, calls: {} })
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

describe('formField', () => {
  it('reads the field of the form among the arguments, and says where it looked', () => {
    const key = formField('key')
    expect(key.source).toEqual({ field: 'key' })
    expect(key.read([formOf({ key: 'k-1' })])).toBe('k-1')
    expect(key.read(['bound', { state: 1 }, formOf({ key: 'k-1' })])).toBe('k-1')
    expect(key.read([formOf({ key: 'first' }), formOf({ key: 'last' })])).toBe('last')
    expect(key.read([formOf({ other: 'k-1' })])).toBeUndefined()
    expect(key.read([{ key: 'k-1' }])).toBeUndefined()
    expect(key.read([])).toBeUndefined()
  })
})

describe('idempotentAction', () => {
  it('runs once per key, and answers a repeat with the first result', async () => {
    const { createOrder, runs } = setUp(async (run, form: FormData) => ({
      item: form.get('item'),
      fence: run.fence,
    }))
    const first = await inRequest(() => createOrder(formOf({ key: 'k-1', item: 'book' })))
    expect(first).toEqual({ item: 'book', fence: 1 })
    expect(await inRequest(() => createOrder(formOf({ key: 'k-1', item: 'book' })))).toEqual(first)
    await inRequest(() => createOrder(formOf({ key: 'k-2', item: 'book' })))
    expect(runs()).toBe(2)
    const outcomes = spansNamed('action createOrder').map(({ attributes }) => [
      attributes['idempotency.outcome'],
      attributes['idempotency.hit'],
      attributes['action.outcome'],
    ])
    expect(outcomes).toEqual([
      ['won', false, 'ok'],
      ['replay', true, 'ok'],
      ['won', false, 'ok'],
    ])
  })

  it('gives its function the run, with a logger that names request and action', async () => {
    const { createOrder } = setUp(async (run) => {
      run.log.info('charging')
      await run.markEffects()
      return [run.outcome, run.correlationId, run.isReplay, run.hits, run.signal.aborted]
    })
    const result = await inRequest(() => createOrder(formOf({ key: 'k-1' })))
    expect(result).toEqual(['won', 'order-7', false, 0, false])
    expect(lines[0]).toMatchObject({ msg: 'charging', correlation_id: 'order-7', action: 'createOrder' })
  })

  it.each(CONTROL_FLOW)('replays %s so that Next knows it', async (_, end, outcome) => {
    const { createOrder, runs } = setUp(async () => end())
    const endings = [1, 2].map(() =>
      inRequest(() => createOrder(formOf({ key: 'k-1' })).catch((error) => error)),
    )
    const [first] = await Promise.all([endings[0]])
    const replayed = await inRequest(() => createOrder(formOf({ key: 'k-1' })).catch((error) => error))
    expect(runs()).toBe(1)
    expect(replayed).not.toBe(first)
    expect(replayed.digest).toBe(first.digest)
    // Next's own test, which rethrows what belongs to it.
    expect(() => unstable_rethrow(replayed)).toThrow(replayed)
    expect(spansNamed('action createOrder').at(-1)?.attributes).toMatchObject({
      'action.outcome': outcome,
      'idempotency.outcome': 'replay',
    })
    await Promise.all(endings)
  })

  it('runs again after an error', async () => {
    let attempts = 0
    const { createOrder } = setUp(async () => {
      attempts += 1
      if (attempts === 1) throw new Error('no stock')
      return attempts
    })
    await expect(inRequest(() => createOrder(formOf({ key: 'k-1' })))).rejects.toThrow('no stock')
    expect(await inRequest(() => createOrder(formOf({ key: 'k-1' })))).toBe(2)
  })

  it.each([
    ['no field', {}, 'IDEMPOTENCY_KEY_MISSING', 'none in the field "key"'],
    ['an empty field', { key: '' }, 'IDEMPOTENCY_KEY_MISSING', 'none in the field "key"'],
    ['a key with a space', { key: 'secret key' }, 'IDEMPOTENCY_KEY_MALFORMED', 'a string of 10 characters'],
    ['256 characters', { key: 'k'.repeat(256) }, 'IDEMPOTENCY_KEY_MALFORMED', 'a string of 256 characters'],
    ['a file', { key: new Blob(['k']) }, 'IDEMPOTENCY_KEY_MALFORMED', 'is object'],
  ])('refuses a form with %s before its function runs', async (_, fields, code, why) => {
    const { createOrder, runs } = setUp()
    const error = await refusalOf(inRequest(() => createOrder(formOf(fields))))
    expect(error.code).toBe(code)
    expect(error.why).toContain(why)
    expect(error.message).toContain('"createOrder"')
    expect(error.message).not.toContain('secret key')
    expect(runs()).toBe(0)
    expect(spanNamed('action createOrder').attributes['action.outcome']).toBe('error')
  })

  it('reads the key by a function of the arguments, and says so where it is missing', async () => {
    const { createOrder, runs } = setUp(async (_, order: { id?: string }) => order.id, {
      key: (order) => order.id,
    })
    await inRequest(() => createOrder({ id: 'k-1' }))
    await inRequest(() => createOrder({ id: 'k-1' }))
    expect(runs()).toBe(1)
    const error = await refusalOf(inRequest(() => createOrder({})))
    expect(error.why).toContain('the option "key"')
  })

  it('refuses another payload under a used key', async () => {
    const { createOrder, runs } = setUp()
    await inRequest(() => createOrder(formOf({ key: 'k-1', item: 'book' })))
    const error = await refusalOf(inRequest(() => createOrder(formOf({ key: 'k-1', item: 'pen' }))))
    expect(error.code).toBe('IDEMPOTENCY_MISMATCH')
    expect(runs()).toBe(1)
  })

  it('takes the submitted form for the payload, whatever state useActionState passes with it', async () => {
    const { createOrder, runs } = setUp(async (_, _state: unknown, _form: FormData) => 'done')
    await inRequest(() => createOrder(undefined, formOf({ key: 'k-1', item: 'book' })))
    await inRequest(() =>
      createOrder({ error: 'busy' }, formOf({ key: 'k-1', item: 'book', $ACTION_KEY: 'x' })),
    )
    expect(runs()).toBe(1)
  })

  it('takes all arguments for the payload where there is no form, or what the option says', async () => {
    const key = () => 'k-1'
    const all = setUp(async (_, _item: string, _count: number) => 'done', { key })
    await inRequest(() => all.createOrder('book', 1))
    expect((await refusalOf(inRequest(() => all.createOrder('book', 2)))).code).toBe('IDEMPOTENCY_MISMATCH')
    const some = setUp(async (_, _item: string, _count: number) => 'done', { key, payload: (item) => item })
    await inRequest(() => some.createOrder('book', 1))
    expect(await inRequest(() => some.createOrder('book', 2))).toBe('done')
    expect(some.runs()).toBe(1)
  })

  it('refuses a key in use', async () => {
    const running = Promise.withResolvers<void>()
    const started = Promise.withResolvers<void>()
    const { createOrder, runs } = setUp(async () => {
      started.resolve()
      await running.promise
    })
    const first = inRequest(() => createOrder(formOf({ key: 'k-1' })))
    await started.promise
    expect((await refusalOf(inRequest(() => createOrder(formOf({ key: 'k-1' }))))).code).toBe(
      'IDEMPOTENCY_BUSY',
    )
    running.resolve()
    await first
    expect(runs()).toBe(1)
  })

  it('keeps scopes apart, which may depend on the arguments and may have to be awaited', async () => {
    const { createOrder, runs } = setUp(async (_, form: FormData) => form.get('user'), {
      scope: async (form) => String(form.get('user')),
    })
    for (const user of ['ada', 'eve', 'ada']) {
      expect(await inRequest(() => createOrder(formOf({ key: 'k-1', user })))).toBe(user)
    }
    expect(runs()).toBe(2)
  })

  it.each([undefined, '', null, 7])(
    'refuses the scope %j, as of a user who is not signed in',
    async (scope) => {
      const { createOrder, runs } = setUp(async () => 'done', { scope: () => scope as string | undefined })
      const request = inRequest(() => createOrder(formOf({ key: 'k-1' })))
      await expect(request).rejects.toThrow(TypeError)
      await expect(request).rejects.toThrow('"scope" must be a non-empty string')
      expect(runs()).toBe(0)
    },
  )

  it('may send a user who is not signed in elsewhere from its scope', async () => {
    const { createOrder, runs } = setUp(async () => 'done', { scope: () => redirect('/sign-in') })
    await expect(inRequest(() => createOrder(formOf({ key: 'k-1' })))).rejects.toThrow('NEXT_REDIRECT')
    expect(spanNamed('action createOrder').attributes['action.outcome']).toBe('redirect')
    expect(runs()).toBe(0)
  })

  it('does not compile without a scope, a key or a store', () => {
    const store = memoryStore({ name: randomUUID() })
    const key = formField('key')
    const body = async (_: ActionRun, _form: FormData) => 'done'
    // @ts-expect-error: whose key it is must be said.
    idempotentAction('createOrder', { store, key }, body)
    // @ts-expect-error: where the key is must be said.
    idempotentAction('createOrder', { store, scope: 'ada' }, body)
    // @ts-expect-error: a store must be given.
    idempotentAction('createOrder', { key, scope: 'ada' }, body)
    expectTypeOf(idempotentAction('createOrder', { store, key, scope: 'ada' }, body)).toEqualTypeOf<
      (form: FormData) => Promise<string>
    >()
  })

  it('refuses a name like action does', () => {
    expect(() => setUp(async () => 'done', {}, 'create order')).toThrow(TypeError)
  })
})

describe('onRefused', () => {
  it('turns a refusal into a result, which no repeat gets', async () => {
    const seen: string[] = []
    const { createOrder, runs } = setUp(async () => 'done', {
      onRefused: async (error) => {
        seen.push(error.code)
        return 'refused'
      },
    })
    expect(await inRequest(() => createOrder(formOf({})))).toBe('refused')
    expect(await inRequest(() => createOrder(formOf({ key: 'k-1' })))).toBe('done')
    expect(await inRequest(() => createOrder(formOf({ key: 'k-1', item: 'pen' })))).toBe('refused')
    expect(await inRequest(() => createOrder(formOf({ key: 'k-1' })))).toBe('done')
    expect(seen).toEqual(['IDEMPOTENCY_KEY_MISSING', 'IDEMPOTENCY_MISMATCH'])
    expect(runs()).toBe(1)
  })

  it('is asked when the store does not answer', async () => {
    const store = memoryStore({ name: randomUUID() })
    const { createOrder, runs } = setUp(async () => 'done', {
      store: { ...store, claim: () => Promise.reject(new Error('ECONNREFUSED')) },
      onRefused: (error) => error.code,
    })
    expect(await inRequest(() => createOrder(formOf({ key: 'k-1' })))).toBe('STORE_UNAVAILABLE')
    expect(runs()).toBe(0)
  })

  it("is not asked about the function's own errors, control flow, and mistakes of the program", async () => {
    const onRefused = () => expect.unreachable('It was asked.')
    const failing = setUp(async () => fail(new Error('no stock')), { onRefused })
    await expect(inRequest(() => failing.createOrder(formOf({ key: 'k-1' })))).rejects.toThrow('no stock')
    const leaving = setUp(async () => redirect('/'), { onRefused })
    await expect(inRequest(() => leaving.createOrder(formOf({ key: 'k-1' })))).rejects.toThrow(
      'NEXT_REDIRECT',
    )
    const unscoped = setUp(async () => 'done', { onRefused, scope: () => undefined })
    await expect(inRequest(() => unscoped.createOrder(formOf({ key: 'k-1' })))).rejects.toThrow('"scope"')
  })

  it('is not asked about a refusal that the function got from another guarded run: that one did run', async () => {
    const store = memoryStore({ name: randomUUID() })
    const { createOrder, runs } = setUp(
      () => runOnce(store, { name: 'charge', scope: 'ada', key: '', payload: null }, async () => 'done'),
      { onRefused: () => 'refused' },
    )
    const error = await refusalOf(inRequest(() => createOrder(formOf({ key: 'k-1' }))))
    expect(error.message).toContain('"charge"')
    expect(runs()).toBe(1)
  })

  it('may redirect', async () => {
    const { createOrder } = setUp(async () => 'done', { onRefused: () => redirect('/busy') })
    await expect(inRequest(() => createOrder(formOf({})))).rejects.toThrow('NEXT_REDIRECT')
    expect(spanNamed('action createOrder').attributes['action.outcome']).toBe('redirect')
  })
})

/** An idempotent action with a store of its own; `runs` counts how often its function was entered. */
function setUp<Args extends unknown[] = [FormData], Result = string>(
  body: (run: ActionRun, ...args: Args) => Promise<Result> = async () => 'done' as Result,
  options: Partial<IdempotentActionOptions<Args, Result>> = {},
  name = 'createOrder',
) {
  let runs = 0
  const createOrder = idempotentAction<Args, Result>(
    name,
    { store: memoryStore({ name: randomUUID() }), scope: 'ada', key: formField('key'), ...options },
    (run, ...args) => {
      runs += 1
      return body(run, ...args)
    },
  )
  return { createOrder, runs: () => runs }
}

function formOf(fields: Record<string, string | Blob>): FormData {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) form.set(name, value)
  return form
}

async function refusalOf(run: Promise<unknown>): Promise<ThroughlineError> {
  const error = await run.then(
    () => expect.unreachable('It was not refused.'),
    (thrown: unknown) => thrown,
  )
  if (!isThroughlineError(error)) throw error
  return error
}

function fail(error: Error): never {
  throw error
}

function withDigest(digest: string): Error {
  return Object.assign(new Error('failed'), { digest })
}

function spansNamed(name: string): tracing.ReadableSpan[] {
  return spans.getFinishedSpans().filter((span) => span.name === name)
}

function spanNamed(name: string): tracing.ReadableSpan {
  const [span, ...others] = spansNamed(name)
  expect(others).toEqual([])
  return span ?? expect.unreachable(`There is no span named ${name}.`)
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
