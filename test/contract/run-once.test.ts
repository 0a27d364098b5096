import { randomUUID } from 'node:crypto'
import { type Attributes, diag, metrics, SpanStatusCode, trace } from '@opentelemetry/api'
import { metrics as metricsSdk, node, tracing } from '@opentelemetry/sdk-node'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { runWithCorrelation } from '../../src/context/index.ts'
import { isThroughlineError } from '../../src/errors.ts'
import type { IdempotencyStore } from '../../src/idempotency/contract.ts'
import { identityOf } from '../../src/idempotency/identity.ts'
import type { Run, RunOnceOptions, ThrownCodec } from '../../src/idempotency/run.ts'
import { runOnce } from '../../src/idempotency/run-once.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import type { IdempotencyUse } from '../../src/telemetry/idempotency.ts'
import { tokenOf } from './idempotency-store.ts'

const spans = new tracing.InMemorySpanExporter()
new node.NodeTracerProvider({ spanProcessors: [new tracing.SimpleSpanProcessor(spans)] }).register()
const metricReader = new metricsSdk.PeriodicExportingMetricReader({
  exporter: new metricsSdk.InMemoryMetricExporter(metricsSdk.AggregationTemporality.CUMULATIVE),
  exportIntervalMillis: 2 ** 30,
})
metrics.setGlobalMeterProvider(new metricsSdk.MeterProvider({ readers: [metricReader] }))

const warnings: unknown[][] = []
const ignore = () => {}
diag.setLogger({
  warn: (...args) => void warnings.push(args),
  error: ignore,
  info: ignore,
  debug: ignore,
  verbose: ignore,
})

afterEach(() => {
  vi.useRealTimers()
  spans.reset()
  warnings.length = 0
})

const redirects: ThrownCodec = {
  capture: (error) => (error instanceof Redirect ? { to: error.to } : undefined),
  restore: (data) => new Redirect((data as { to: string }).to),
}
class Redirect extends Error {
  constructor(readonly to: string) {
    super(`redirect to ${to}`)
  }
}

describe('runOnce, as long as all goes well', () => {
  it('runs once, and replays the result with its types', async () => {
    const use = setUp()
    const order = { id: 1n, at: new Date(0), lines: new Map([['book', undefined]]) }
    expect(await use.run(() => order)).toBe(order)
    expect(await use.run(() => expect.unreachable())).toEqual(order)
    expect(use.seen.map((seen) => [seen.outcome, seen.isHit, seen.hits])).toEqual([
      ['won', false, 0],
      ['replay', true, 1],
    ])
  })

  it('tells the body about its run', async () => {
    const use = setUp()
    const run = await runWithCorrelation(
      'order-7',
      () => new Promise<Run>((resolve) => void use.run(resolve)),
    )
    expect(run).toMatchObject({
      outcome: 'won',
      isReplay: false,
      fence: 1,
      hits: 0,
      correlationId: 'order-7',
    })
    expect(run.signal.aborted).toBe(false)
  })

  it('runs again under another key, name or scope', async () => {
    const use = setUp()
    let runs = 0
    const body = () => ++runs
    await use.run(body)
    await use.run(body, { key: 'another' })
    await use.run(body, { name: 'deleteOrder' })
    await use.run(body, { scope: 'bob' })
    expect(runs).toBe(4)
  })

  it('refuses another payload under a used key, also while the first use runs', async () => {
    const use = setUp()
    const first = deferred()
    const running = use.run(() => first.promise)
    await use.isClaimed()
    expect(await codeOf(use.run(ignore, { payload: 'other' }))).toBe('IDEMPOTENCY_MISMATCH')
    first.resolve()
    await running
    expect(await codeOf(use.run(ignore, { payload: 'other' }))).toBe('IDEMPOTENCY_MISMATCH')
  })

  it('takes the fingerprint before the body changes the payload', async () => {
    const use = setUp()
    const payload = { items: ['book'] }
    await use.run(() => payload.items.push('changed'), { payload })
    expect(await use.run(() => 0, { payload: { items: ['book'] } })).toBe(2)
  })

  it("leaves the key's own field out of the fingerprint", async () => {
    const use = setUp()
    const keyFrom = { field: 'key' }
    await use.run(() => 'order', { payload: { item: 1, key: 'k' }, keyFrom })
    expect(await use.run(() => 'again', { payload: { item: 1 }, keyFrom })).toBe('order')
  })

  it('hands neither the store, nor an error, nor telemetry the raw key', async () => {
    const requests: unknown[] = []
    const key = `secret-${randomUUID()}`
    const use = setUp((store) => ({
      ...store,
      claim(request) {
        requests.push(request)
        return store.claim(request)
      },
    }))
    await use.run(() => 'order', { key })
    const error = await use.run(ignore, { key, payload: 'other' }).catch(String)
    expect(error).toContain('another payload')
    expect(JSON.stringify([requests, error, use.seen, warnings])).not.toContain(key)
  })
})

describe('runOnce, while the first use is in flight', () => {
  it('is busy at once by default', async () => {
    const use = setUp()
    const first = deferred()
    const running = use.run(() => first.promise)
    await use.isClaimed()
    expect(await codeOf(use.run(ignore))).toBe('IDEMPOTENCY_BUSY')
    first.resolve()
    await running
  })

  it('lets 50 callers that wait share one flight, each with a result of its own', async () => {
    let claims = 0
    const use = setUp((store) => ({
      ...store,
      claim(request) {
        claims += 1
        return store.claim(request)
      },
    }))
    let runs = 0
    const first = deferred()
    const callers = Array.from({ length: 50 }, () =>
      use.run(() => first.promise.then(() => ({ order: ++runs })), { inFlight: { waitMs: 60_000 } }),
    )
    await vi.waitFor(() => expect(claims).toBe(50))
    // Each pauses for a turn before it looks for a flight.
    await new Promise((resolve) => setTimeout(resolve, 0))
    first.resolve()
    const orders = await Promise.all(callers)
    expect(orders).toEqual(Array(50).fill({ order: 1 }))
    expect(new Set(orders).size).toBe(50)
    expect(claims).toBe(50)
    expect(use.seen.filter((seen) => seen.outcome === 'replay')).toHaveLength(49)
    expect((await use.record())?.hits).toBe(49)
  })

  it('waits for a run in another process, and counts one hit', async () => {
    vi.useFakeTimers()
    const use = setUp()
    const first = deferred()
    const running = use.run(() => first.promise.then(() => 'order'))
    const waiting = use.elsewhere(() => expect.unreachable(), { inFlight: { waitMs: 60_000 } })
    await vi.advanceTimersByTimeAsync(20_000)
    first.resolve()
    expect(await running).toBe('order')
    await vi.advanceTimersByTimeAsync(1_000)
    expect(await waiting).toBe('order')
    expect((await use.record())?.hits).toBe(1)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('runs itself when the run it waited for failed', async () => {
    const use = setUp()
    const first = deferred()
    const running = use.run(() => first.promise.then(() => Promise.reject(new Error('card declined'))))
    await use.isClaimed()
    const waiting = use.run((run) => run.fence, { inFlight: { waitMs: 60_000 } })
    first.resolve()
    await expect(running).rejects.toThrow('card declined')
    expect(await waiting).toBe(2)
  })

  it.each(['run', 'elsewhere'] as const)('is busy when the deadline passes: %s', async (where) => {
    vi.useFakeTimers()
    const use = setUp()
    const first = deferred()
    const running = use.run(() => first.promise)
    const waiting = use[where](ignore, { inFlight: { waitMs: 5_000 } }).catch(String)
    await vi.advanceTimersByTimeAsync(4_999)
    expect(use.seen).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(await waiting).toMatch(/did not end within the 5000 ms/)
    first.resolve()
    await running
    expect(vi.getTimerCount()).toBe(0)
  })

  it('goes on waiting through an outage, whatever the policy: a run is known to be in flight', async () => {
    vi.useFakeTimers()
    const use = setUp()
    const first = deferred()
    const running = use.run(() => first.promise.then(() => 'order'))
    let claims = 0
    const flaky: IdempotencyStore = {
      ...use.otherStore,
      claim: (request) => (++claims % 2 === 0 ? fail() : use.otherStore.claim(request)),
    }
    const waiting = runOnce(flaky, { ...use.options, outage: 'open', inFlight: { waitMs: 60_000 } }, () =>
      expect.unreachable(),
    )
    await vi.advanceTimersByTimeAsync(10_000)
    first.resolve()
    await vi.advanceTimersByTimeAsync(3_000)
    expect(await waiting).toBe('order')
    await running
  })
})

describe('runOnce, when the body throws', () => {
  it('lets a retry run after a failure before effects', async () => {
    const use = setUp()
    await expect(use.run(() => Promise.reject(new Error('invalid')))).rejects.toThrow('invalid')
    expect(await use.run((run) => [run.outcome, run.fence, run.hits])).toEqual(['won', 2, 1])
  })

  it('lets a retry run after a synchronous throw too', async () => {
    const use = setUp()
    const thrower = () => {
      throw new Error('invalid')
    }
    await expect(use.run(thrower)).rejects.toThrow('invalid')
    expect(await use.run(() => 'order')).toBe('order')
  })

  it('never runs again after a failure behind the point of no return', async () => {
    const use = setUp()
    const charge = async (run: Run) => {
      await run.markEffects()
      throw new Error('connection reset')
    }
    await expect(use.run(charge)).rejects.toThrow('connection reset')
    for (let retry = 0; retry < 2; retry += 1) {
      expect(await codeOf(use.run(() => expect.unreachable()))).toBe('IDEMPOTENCY_UNKNOWN')
    }
    expect((await use.record())?.state).toBe('unknown')
  })

  it('takes effects for begun even when marking them was not awaited', async () => {
    const use = setUp()
    const charge = (run: Run) => {
      void run.markEffects()
      throw new Error('connection reset')
    }
    await expect(use.run(charge)).rejects.toThrow('connection reset')
    expect(await codeOf(use.run(ignore))).toBe('IDEMPOTENCY_UNKNOWN')
  })

  it('stores what is thrown on purpose, and throws it again on a replay', async () => {
    const use = setUp()
    const order = async (run: Run) => {
      await run.markEffects()
      throw new Redirect('/orders/1')
    }
    const first = await use.run(order, { thrown: redirects }).catch((error: unknown) => error)
    const replay = await use
      .run(() => expect.unreachable(), { thrown: redirects })
      .catch((error: unknown) => error)
    expect(first).toEqual(new Redirect('/orders/1'))
    expect(replay).toEqual(new Redirect('/orders/1'))
    expect(replay).not.toBe(first)
    expect(await codeOf(use.run(ignore))).toBe('IDEMPOTENCY_NOT_REPLAYABLE')
  })

  it('takes an error that the codec does not know for a failure', async () => {
    const use = setUp()
    await expect(use.run(() => Promise.reject(new Error('invalid')), { thrown: redirects })).rejects.toThrow()
    expect(await use.run(() => 'order', { thrown: redirects })).toBe('order')
  })
})

describe('runOnce, when a result cannot be replayed', () => {
  it.each<[string, () => unknown, Partial<RunOnceOptions>]>([
    ['a function', () => ({ cancel: () => {} }), {}],
    ['a result above the limit', () => 'x'.repeat(200), { maxResultBytes: 100 }],
  ])('gives %s to the first caller, and never runs again', async (_, body, changes) => {
    const use = setUp()
    expect(await use.run(body, changes)).toBeDefined()
    const replay = use.run(() => expect.unreachable(), changes)
    expect(await codeOf(replay)).toBe('IDEMPOTENCY_NOT_REPLAYABLE')
    expect((await use.record())?.state).toBe('completed')
    expect(warnings).toEqual([[expect.stringMatching(/the result of "createOrder" cannot be replayed/i)]])
  })
})

describe('runOnce, when a run is slow or dies', () => {
  it('keeps its lease for as long as it runs', async () => {
    vi.useFakeTimers()
    const use = setUp()
    const first = deferred()
    const running = use.run(() => first.promise.then(() => 'order'))
    await vi.advanceTimersByTimeAsync(30_000 * 20)
    expect(await codeOf(use.run(ignore))).toBe('IDEMPOTENCY_BUSY')
    first.resolve()
    expect(await running).toBe('order')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('survives a store that misses one renewal', async () => {
    vi.useFakeTimers()
    let renewals = 0
    const use = setUp((store) => ({
      ...store,
      renew: (token) => (++renewals % 2 === 1 ? fail() : store.renew(token)),
    }))
    const first = deferred()
    const running = use.run(() => first.promise)
    await vi.advanceTimersByTimeAsync(30_000 * 10)
    expect(await codeOf(use.run(ignore))).toBe('IDEMPOTENCY_BUSY')
    first.resolve()
    await running
    expect(warnings).toHaveLength(1)
  })

  it('is taken over when it is silent for longer than its lease, and its result is refused', async () => {
    vi.useFakeTimers()
    const use = setUp((store) => ({ ...store, renew: fail }))
    const first = deferred()
    const zombie = use.run(() => first.promise.then(() => "the zombie's"))
    await vi.advanceTimersByTimeAsync(30_000)
    expect(await use.elsewhere((run) => [run.outcome, run.fence])).toEqual(['takeover', 2])
    first.resolve()
    expect(await codeOf(zombie)).toBe('IDEMPOTENCY_LEASE_LOST')
    expect(await use.run(() => expect.unreachable())).toEqual(['takeover', 2])
  })

  it('learns from its signal that it was taken over, and is kept from its effects', async () => {
    vi.useFakeTimers()
    let isFrozen = true
    const use = setUp((store) => ({ ...store, renew: (token) => (isFrozen ? fail() : store.renew(token)) }))
    const first = deferred()
    const effect = vi.fn()
    let signal: AbortSignal | undefined
    const zombie = codeOf(
      use.run(async (run) => {
        signal = run.signal
        await first.promise
        await run.markEffects()
        effect()
      }),
    )
    await vi.advanceTimersByTimeAsync(30_000)
    await use.elsewhere(() => 'taken over')
    isFrozen = false
    await vi.advanceTimersByTimeAsync(10_000)
    expect(signal?.aborted).toBe(true)
    first.resolve()
    expect(await zombie).toBe('IDEMPOTENCY_LEASE_LOST')
    expect(effect).not.toHaveBeenCalled()
    expect(await use.run(ignore)).toBe('taken over')
  })

  it('is not taken over when it died after its effects began', async () => {
    vi.useFakeTimers()
    const use = setUp()
    const { key, fingerprint } = await use.identify()
    const dead = await use.otherStore.claim({ key, fingerprint, leaseMs: 30_000, retentionMs: 86_400_000 })
    await use.otherStore.markEffects(tokenOf(dead))
    vi.advanceTimersByTime(30_000)
    expect(await codeOf(use.run(() => expect.unreachable()))).toBe('IDEMPOTENCY_UNKNOWN')
  })
})

describe('runOnce, when the store does not answer', () => {
  it('runs nothing by default, and says why', async () => {
    const use = setUp((store) => ({ ...store, claim: fail }))
    const error = await use.run(() => expect.unreachable()).catch((error: unknown) => error)
    expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', cause: new Error('store is down') })
    expect(use.seen).toEqual([])
  })

  it('runs without guard when asked to, and flags it', async () => {
    const use = setUp((store) => ({ ...store, claim: fail }))
    const outcome = await use.run(
      async (run) => {
        await run.markEffects()
        return [run.outcome, run.fence]
      },
      { outage: 'open' },
    )
    expect(outcome).toEqual(['unguarded', 0])
    expect(use.seen).toMatchObject([{ outcome: 'unknown', guarantee: 'at-least-once', isHit: false }])
    expect(warnings).toHaveLength(1)
  })

  it('gives the caller the result that the store could not keep, and reports it once', async () => {
    const use = setUp((store) => ({ ...store, complete: fail }))
    expect(await use.run(() => 'order')).toBe('order')
    expect(warnings).toEqual([
      [expect.stringContaining('did not keep the result'), new Error('store is down')],
    ])
    expect(await codeOf(use.run(ignore))).toBe('IDEMPOTENCY_BUSY')
  })

  it('gives that result to callers that share the flight too', async () => {
    const use = setUp((store) => ({ ...store, complete: fail }))
    const first = deferred()
    const running = use.run(() => first.promise.then(() => 'order'))
    await use.isClaimed()
    const waiting = use.run(() => expect.unreachable(), { inFlight: { waitMs: 60_000 } })
    await vi.waitFor(async () => expect((await use.record())?.hits).toBe(1))
    first.resolve()
    expect(await Promise.all([running, waiting])).toEqual(['order', 'order'])
  })

  it.each(['abort', 'markUnknown'] as const)(
    "throws the body's error when the store misses it: %s",
    async (verb) => {
      const use = setUp((store) => ({ ...store, [verb]: fail }))
      const body = async (run: Run) => {
        if (verb === 'markUnknown') await run.markEffects()
        throw new Error('card declined')
      }
      await expect(use.run(body)).rejects.toThrow('card declined')
      expect(warnings).toHaveLength(1)
    },
  )

  it('keeps a run from effects that the store did not hear of, and lets a retry run', async () => {
    let isDown = true
    const use = setUp((store) => ({
      ...store,
      markEffects: (token) => (isDown ? fail() : store.markEffects(token)),
    }))
    const effect = vi.fn()
    const body = async (run: Run) => {
      await run.markEffects()
      effect()
    }
    expect(await codeOf(use.run(body))).toBe('STORE_UNAVAILABLE')
    expect(effect).not.toHaveBeenCalled()
    isDown = false
    await use.run(body)
    expect(effect).toHaveBeenCalledTimes(1)
  })

  it('does not end the process when marking fails and is not awaited', async () => {
    const use = setUp((store) => ({ ...store, markEffects: fail }))
    const unhandled = vi.fn()
    process.on('unhandledRejection', unhandled)
    expect(await use.run((run) => void run.markEffects())).toBeUndefined()
    await new Promise(setImmediate)
    process.off('unhandledRejection', unhandled)
    expect(unhandled).not.toHaveBeenCalled()
  })

  it('lets effects begin without the store when asked to', async () => {
    const use = setUp((store) => ({ ...store, markEffects: fail }))
    expect(await use.run((run) => run.markEffects().then(() => 'order'), { outage: 'open' })).toBe('order')
    expect(warnings).toHaveLength(1)
  })
})

describe('runOnce, in telemetry', () => {
  it('shows a hit on the active span, with an event and a link to the first use', async () => {
    const use = setUp()
    await inSpan('first', () => use.run(() => 'order'))
    await inSpan('second', () => use.run(() => 'order'))
    const [first, second] = spans.getFinishedSpans()
    expect(first?.attributes).toMatchObject({ 'idempotency.hit': false, 'idempotency.outcome': 'won' })
    expect(second?.attributes).toMatchObject({
      'idempotency.hit': true,
      'idempotency.hits': 1,
      'idempotency.outcome': 'replay',
      'idempotency.guarantee': 'at-most-once',
      'idempotency.key_hash': (await use.identify()).keyHash,
      'idempotency.fence': 1,
      'idempotency.age_ms': expect.any(Number),
      'idempotency.origin.trace_id': first?.spanContext().traceId,
    })
    expect(second?.events.map((event) => event.name)).toEqual(['idempotency.hit'])
    expect(second?.links.map((link) => link.context.spanId)).toEqual([first?.spanContext().spanId])
    expect(second?.status.code).toBe(SpanStatusCode.UNSET)
  })

  it('measures each claim at the store', async () => {
    const name = `measured-${randomUUID()}`
    const use = setUp((store) => ({ ...store, name }))
    await use.run(() => 'order')
    await use.run(() => 'order')
    const { resourceMetrics } = await metricReader.collect()
    const points = resourceMetrics.scopeMetrics
      .flatMap((scope) => scope.metrics)
      .filter((metric) => metric.descriptor.name === 'idempotency.claim.duration')
      .flatMap((metric): { attributes: Attributes }[] => metric.dataPoints)
      .filter((point) => point.attributes.store === name)
    expect(points.map((point) => point.attributes.outcome)).toEqual(['won', 'replay'])
  })

  it('goes on when onUse throws', async () => {
    const use = setUp()
    const onUse = () => {
      throw new Error('bug')
    }
    expect(await use.run(() => 'order', { onUse })).toBe('order')
    expect(warnings).toHaveLength(1)
  })
})

describe('runOnce, when it is called wrongly', () => {
  it.each<[Partial<Record<keyof RunOnceOptions, unknown>>, RegExp]>([
    [{ scope: undefined }, /"scope" must be/],
    [{ name: '' }, /"name" must be/],
    [{ leaseMs: 0 }, /"leaseMs" must be a whole number of milliseconds above 0, received 0/],
    [{ leaseMs: '30s' }, /"leaseMs" .* received string/],
    [{ retentionMs: Number.NaN }, /"retentionMs" .* received NaN/],
    [{ inFlight: { waitMs: -1 } }, /"inFlight.waitMs" .* received -1/],
    [{ inFlight: 'wait' }, /"inFlight" must be 'refuse' or \{ waitMs \}/],
    [{ payload: () => {} }, /"payload" must hold values that can be compared/],
  ])('names the option: %o', async (changes, message) => {
    const use = setUp()
    const call = use.run(() => expect.unreachable(), changes as Partial<RunOnceOptions>)
    await expect(call).rejects.toThrow(TypeError)
    await expect(use.run(ignore, changes as Partial<RunOnceOptions>)).rejects.toThrow(message)
  })

  it('refuses a missing and a malformed key', async () => {
    const use = setUp()
    expect(await codeOf(use.run(ignore, { key: null }))).toBe('IDEMPOTENCY_KEY_MISSING')
    expect(await codeOf(use.run(ignore, { key: 'two words' }))).toBe('IDEMPOTENCY_KEY_MALFORMED')
  })
})

/** One key on a store of its own, and a second store object on the same records: another process. */
function setUp(change: (store: IdempotencyStore) => IdempotencyStore = (store) => store) {
  const storeName = randomUUID()
  const store = change(memoryStore({ name: storeName }))
  const otherStore = memoryStore({ name: storeName })
  const seen: IdempotencyUse[] = []
  const onUse = (use: IdempotencyUse) => void seen.push(use)
  const options: RunOnceOptions = {
    name: 'createOrder',
    scope: 'ann',
    key: 'k1',
    payload: { item: 1 },
    onUse,
  }
  const { key, keyHash } = identityOf(options.scope, options.name, options.key)
  const record = () => otherStore.read(key)
  type Body<T> = (run: Run) => T | Promise<T>
  return {
    seen,
    options,
    otherStore,
    record,
    run: <T>(body: Body<T>, changes: Partial<RunOnceOptions> = {}) =>
      runOnce(store, { ...options, ...changes }, body),
    elsewhere: <T>(body: Body<T>, changes: Partial<RunOnceOptions> = {}) =>
      runOnce(otherStore, { ...options, ...changes }, body),
    isClaimed: () => vi.waitFor(async () => expect((await record())?.state).toBe('claimed')),
    /** What `runOnce` asks the store for, learned from a use that failed. */
    async identify() {
      await runOnce(otherStore, options, () => Promise.reject(new Error('only to look'))).catch(ignore)
      const fingerprint = (await record())?.fingerprint ?? ''
      return { key, keyHash, fingerprint }
    },
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = ignore
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

function fail(): Promise<never> {
  return Promise.reject(new Error('store is down'))
}

async function codeOf(use: Promise<unknown>): Promise<string> {
  const error = await use.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (isThroughlineError(error)) return error.code
  throw error ?? new Error('The use was not refused.')
}

function inSpan<T>(name: string, fn: () => Promise<T>): Promise<T> {
  return trace.getTracer('test').startActiveSpan(name, (span) => fn().finally(() => span.end()))
}
