import { randomUUID } from 'node:crypto'
import { SpanStatusCode } from '@opentelemetry/api'
import { redirect, unstable_rethrow } from 'next/navigation.js'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { runWithCorrelation } from '../../src/context/index.ts'
import { isThroughlineError, type ThroughlineError } from '../../src/errors.ts'
import { runOnce } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { digestOf } from '../../src/next/control-flow.ts'
import {
  type ActionRun,
  formField,
  type IdempotentActionOptions,
  idempotentAction,
} from '../../src/next/idempotent-action.ts'
import { CONTROL_FLOW, recordSpans } from './action-spans.ts'
import { collectLogLines } from './log-lines.ts'

const { spanNamed, spansNamed } = recordSpans()
const lines = collectLogLines()

const inRequest = <T>(fn: () => T): T => runWithCorrelation('order-7', fn)

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
    const { createOrder, runs } = setUp(async (run, form) => ({
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
    const submit = () => inRequest(() => createOrder(formOf({ key: 'k-1' })).catch((error) => error))
    const [first, replayed] = [await submit(), await submit()]
    expect(runs()).toBe(1)
    expect(replayed).not.toBe(first)
    expect(replayed).toHaveProperty('digest', digestOf(first))
    // Next's own test, which rethrows what belongs to it.
    expect(() => unstable_rethrow(replayed)).toThrow(replayed)
    expect(spansNamed('action createOrder').at(-1)?.attributes).toMatchObject({
      'action.outcome': outcome,
      'idempotency.outcome': 'replay',
    })
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
    const { createOrder, runs } = setUp<[{ id?: string }]>(async (_, order) => order.id, {
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
    const { createOrder, runs } = setUp<[unknown, FormData]>()
    await inRequest(() => createOrder(undefined, formOf({ key: 'k-1', item: 'book' })))
    await inRequest(() =>
      createOrder({ error: 'busy' }, formOf({ key: 'k-1', item: 'book', $ACTION_KEY: 'x' })),
    )
    expect(runs()).toBe(1)
  })

  it('takes all arguments for the payload where there is no form, or what the option says', async () => {
    const key = () => 'k-1'
    const all = setUp<[string, number]>(undefined, { key })
    await inRequest(() => all.createOrder('book', 1))
    expect((await refusalOf(inRequest(() => all.createOrder('book', 2)))).code).toBe('IDEMPOTENCY_MISMATCH')
    const some = setUp<[string, number]>(undefined, { key, payload: (item) => item })
    await inRequest(() => some.createOrder('book', 1))
    expect(await inRequest(() => some.createOrder('book', 2))).toBe('done')
    expect(some.runs()).toBe(1)
  })

  it('refuses a key in use', async () => {
    const [running, started] = [deferred(), deferred()]
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
    const { createOrder, runs } = setUp(async (_, form) => form.get('user'), {
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
      const { createOrder, runs } = setUp(undefined, { scope: () => scope as string | undefined })
      const request = inRequest(() => createOrder(formOf({ key: 'k-1' })))
      await expect(request).rejects.toThrow(TypeError)
      await expect(request).rejects.toThrow('"scope" must be a non-empty string')
      expect(runs()).toBe(0)
    },
  )

  it('may send a user who is not signed in elsewhere from its scope', async () => {
    const { createOrder, runs } = setUp(undefined, { scope: () => redirect('/sign-in') })
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
    expect(() => setUp(undefined, {}, 'create order')).toThrow(TypeError)
  })
})

describe('the type of an idempotent action', () => {
  it('is that of its function, whatever the options take of the arguments', () => {
    const store = memoryStore()
    const order = async (_run: ActionRun, form: FormData): Promise<never> =>
      redirect(`/orders/${form.get('item')}`)
    expectTypeOf(
      idempotentAction('createOrder', { store, scope: () => 'ada', key: formField('key') }, order),
    ).toEqualTypeOf<(form: FormData) => Promise<never>>()
    expectTypeOf(
      idempotentAction('createOrder', { store, scope: 'ada', key: (form) => form.get('key') }, order),
    ).toEqualTypeOf<(form: FormData) => Promise<never>>()
  })
})

describe('onRefused', () => {
  it('turns a refusal into a result, which no repeat gets', async () => {
    const seen: string[] = []
    const { createOrder, runs } = setUp(undefined, {
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

  it('leaves the refusal on the span and in a line, though the action returns as if all were well', async () => {
    const { createOrder } = setUp(undefined, { onRefused: () => 'refused' })
    await inRequest(() => createOrder(formOf({})))
    expect(spanNamed('action createOrder').attributes).toMatchObject({
      'action.outcome': 'ok',
      'error.type': 'IDEMPOTENCY_KEY_MISSING',
    })
    // The mistake is the caller's.
    expect(spanNamed('action createOrder').status.code).toBe(SpanStatusCode.UNSET)
    expect(lines.map(({ level, msg, code, action }) => [level, msg, code, action])).toEqual([
      [40, 'action refused', 'IDEMPOTENCY_KEY_MISSING', 'createOrder'],
      [30, 'action completed', undefined, 'createOrder'],
    ])
  })

  it('is asked when the store does not answer, which is an error of the app', async () => {
    const store = memoryStore({ name: randomUUID() })
    const { createOrder, runs } = setUp(undefined, {
      store: { ...store, claim: () => Promise.reject(new Error('ECONNREFUSED')) },
      onRefused: (error) => error.code,
    })
    expect(await inRequest(() => createOrder(formOf({ key: 'k-1' })))).toBe('STORE_UNAVAILABLE')
    expect(runs()).toBe(0)
    expect(spanNamed('action createOrder').status.code).toBe(SpanStatusCode.ERROR)
    expect(lines[0]).toMatchObject({
      level: 50,
      msg: 'action refused',
      err: { code: 'STORE_UNAVAILABLE', cause: { message: 'ECONNREFUSED' } },
    })
  })

  it("is not asked about the function's own errors, control flow, and mistakes of the program", async () => {
    const onRefused = () => expect.unreachable('It was asked.')
    const failing = setUp(async () => fail(new Error('no stock')), { onRefused })
    await expect(inRequest(() => failing.createOrder(formOf({ key: 'k-1' })))).rejects.toThrow('no stock')
    const leaving = setUp(async () => redirect('/'), { onRefused })
    await expect(inRequest(() => leaving.createOrder(formOf({ key: 'k-1' })))).rejects.toThrow(
      'NEXT_REDIRECT',
    )
    const unscoped = setUp(undefined, { onRefused, scope: () => undefined })
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
    const { createOrder } = setUp(undefined, { onRefused: () => redirect('/busy') })
    await expect(inRequest(() => createOrder(formOf({})))).rejects.toThrow('NEXT_REDIRECT')
    expect(spanNamed('action createOrder').attributes['action.outcome']).toBe('redirect')
  })
})

/** An idempotent action with a store of its own; `runs` counts how often its function was entered. */
function setUp<Args extends unknown[] = [FormData]>(
  body: NoInfer<(run: ActionRun, ...args: Args) => Promise<unknown>> = async () => 'done',
  options: NoInfer<Partial<IdempotentActionOptions<Args, unknown>>> = {},
  name = 'createOrder',
) {
  let runs = 0
  const createOrder = idempotentAction<Args, unknown>(
    name,
    { store: memoryStore({ name: randomUUID() }), scope: 'ada', key: formField('key'), ...options },
    (run, ...args: Args) => {
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

function deferred() {
  let resolve = () => {}
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

function fail(error: Error): never {
  throw error
}
