import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import {
  contextStorage,
  countCall,
  createContext,
  getContext,
  getCorrelationId,
  isCorrelationId,
  processWide,
  type RequestContext,
  runInContext,
  runWithCorrelation,
  tryGetContext,
} from '../../src/context/index.ts'
import { isThroughlineError, ThroughlineError } from '../../src/errors.ts'

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'

/** Work done under an ID of its own: some steps, some of which start further work and may not wait for it. */
interface Job {
  id: string
  steps: (null | { job: Job; isAwaited: boolean })[]
}
const { job } = fc.letrec<{ job: Job }>((tie) => ({
  job: fc.record({
    id: fc.stringMatching(/^[a-z0-9]{1,6}$/),
    steps: fc.array(
      fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constant(null),
        fc.record({ job: tie('job'), isAwaited: fc.boolean() }),
      ),
      { maxLength: 4 },
    ),
  }),
}))

describe('the request context', () => {
  it('is not mixed up by nested and concurrent work, in whatever order the steps come', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(job, { minLength: 2, maxLength: 5 }),
        async (scheduler, jobs) => {
          const run = ({ id, steps }: Job): Promise<void> =>
            runWithCorrelation(id, async () => {
              const own = getContext()
              const unawaited: Promise<void>[] = []
              for (const inner of steps) {
                countCall(getContext(), 'fetch', 1)
                if (inner !== null) {
                  const done = run(inner.job)
                  expect(getContext()).toBe(own)
                  if (inner.isAwaited) await done
                  else unawaited.push(done)
                }
                await scheduler.schedule(Promise.resolve())
                expect(getContext()).toBe(own)
                expect(getCorrelationId()).toBe(id)
              }
              await Promise.all(unawaited)
              expect(own.calls.fetch?.count ?? 0).toBe(steps.length)
            })
          const all = Promise.all(jobs.map(run))
          expect(tryGetContext()).toBeUndefined()
          await scheduler.waitFor(all)
          expect(tryGetContext()).toBeUndefined()
        },
      ),
    )
  })

  it('reaches what its function starts: timers, microtasks, promises, iterators', async () => {
    const seen: unknown[] = []
    await runWithCorrelation('order-7', async () => {
      const see = () => void seen.push(getCorrelationId())
      await new Promise<void>((resolve) => setTimeout(() => resolve(see())))
      await new Promise<void>((resolve) => setImmediate(() => resolve(see())))
      await new Promise<void>((resolve) => queueMicrotask(() => resolve(see())))
      await Promise.reject(new Error('no')).catch(see)
      for await (const _ of ticks(2)) see()
    })
    expect(seen).toEqual(Array(6).fill('order-7'))
  })

  it('ends with its function, also when that throws', async () => {
    expect(runWithCorrelation('order-7', () => 'result')).toBe('result')
    const fail = () => {
      throw new Error('no stock')
    }
    expect(() => runWithCorrelation('order-7', fail)).toThrow('no stock')
    await expect(runWithCorrelation('order-7', async () => fail())).rejects.toThrow('no stock')
    expect(tryGetContext()).toBeUndefined()
    expect(getCorrelationId()).toBeUndefined()
  })

  it('is one object for the whole request, so that what is learned late is known everywhere', () => {
    const context = createContext(
      { correlationId: 'order-7', traceId: TRACE_ID },
      { method: 'POST', path: '/' },
    )
    runInContext(context, () => {
      expect(getContext()).toBe(context)
      getContext().route = '/orders/[id]'
    })
    expect(context).toEqual({
      correlationId: 'order-7',
      traceId: TRACE_ID,
      method: 'POST',
      path: '/',
      route: '/orders/[id]',
      calls: {},
    })
  })

  it('sums calls by kind, and drops those that no request made', () => {
    runWithCorrelation('order-7', () => {
      countCall(getContext(), 'kv', 1.5)
      countCall(getContext(), 'kv', 2)
      countCall(getContext(), 'database', 0)
      countCall(undefined, 'fetch', 4)
      expect(getContext().calls).toEqual({
        kv: { count: 2, durationMs: 3.5 },
        database: { count: 1, durationMs: 0 },
      })
    })
  })
})

describe('a context that a function opened', () => {
  /** Whether it is over, and how often it was closed. */
  function watched() {
    const context = getContext()
    const state = { isOver: () => context.isOver === true, closed: 0 }
    context.onClose = [() => void state.closed++]
    return state
  }

  it('is over when the function returns, or throws', () => {
    const state = runWithCorrelation('order-7', () => {
      const state = watched()
      expect(state.isOver()).toBe(false)
      return state
    })
    expect([state.isOver(), state.closed]).toEqual([true, 1])
    let failed: ReturnType<typeof watched> | undefined
    const fail = () => {
      failed = watched()
      throw new Error('no stock')
    }
    expect(() => runWithCorrelation('order-7', fail)).toThrow('no stock')
    expect([failed?.isOver(), failed?.closed]).toEqual([true, 1])
  })

  it('is over when its promise settles, not before', async () => {
    let state: ReturnType<typeof watched> | undefined
    const run = (end: Promise<unknown>) =>
      runWithCorrelation('order-7', async () => {
        state = watched()
        await end
        expect(state.isOver()).toBe(false)
      })
    await run(Promise.resolve())
    expect([state?.isOver(), state?.closed]).toEqual([true, 1])
    await expect(run(Promise.reject(new Error('no stock')))).rejects.toThrow('no stock')
    expect([state?.isOver(), state?.closed]).toEqual([true, 1])
  })

  it('leaves an ignored rejection unhandled, and one that is handled alone', async () => {
    const unhandled: unknown[] = []
    const onUnhandled = (error: unknown) => void unhandled.push(error)
    process.on('unhandledRejection', onUnhandled)
    const fail = (message: string) =>
      runWithCorrelation('order-7', async () => {
        throw new Error(message)
      })
    fail('handled').catch(() => {})
    void fail('ignored')
    await new Promise((resolve) => setTimeout(resolve, 10))
    process.off('unhandledRejection', onUnhandled)
    expect(unhandled).toEqual([new Error('ignored')])
  })

  it('hands back what is more than a promise as it is, and starts nothing that has not begun', () => {
    const isStarted = vi.fn()
    // biome-ignore lint/suspicious/noThenProperty: as queries of Prisma and Drizzle are.
    const query = { then: isStarted }
    const child = Object.assign(Promise.resolve(), { kill: () => {} })
    for (const more of [query, child, new (class extends Promise<void> {})((resolve) => resolve())])
      expect(runWithCorrelation('order-7', () => more as unknown)).toBe(more)
    expect(isStarted).not.toHaveBeenCalled()
  })
})

describe('runWithCorrelation', () => {
  it('takes every valid ID as it is, and gives the run a trace ID', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9._:=+/@-]{1,128}$/), (id) => {
        const context = runWithCorrelation(id, getContext)
        expect(context.correlationId).toBe(id)
        expect(context.traceId).toMatch(/^(?!0+$)[0-9a-f]{32}$/)
      }),
    )
  })

  it('takes an ID that is a valid trace ID for the trace ID too, and no other', () => {
    const traceIdOf = (id: string) => runWithCorrelation(id, getContext).traceId
    expect(traceIdOf(TRACE_ID)).toBe(TRACE_ID)
    for (const id of ['0'.repeat(32), TRACE_ID.toUpperCase(), `${TRACE_ID}0`]) {
      expect(traceIdOf(id)).not.toBe(id)
      expect(traceIdOf(id)).not.toBe(traceIdOf(id))
    }
  })

  it('refuses any other with a TypeError that names the option and never echoes the value', () => {
    const refused = fc.oneof(
      // The sign is outside the alphabet and in no message of ours.
      fc.string({ unit: 'binary', maxLength: 200 }).map((text) => `§${text}`),
      fc.anything().filter((value) => !isCorrelationId(value)),
    )
    fc.assert(
      fc.property(refused, (id) => {
        const error = thrownBy(() => runWithCorrelation(id as string, () => expect.unreachable()))
        expect(error).toBeInstanceOf(TypeError)
        const { message } = error as TypeError
        expect(message).toMatch(/^runWithCorrelation: "id" must be 1–128 characters of .+, received .+\.$/)
        expect(message).not.toContain('§')
        if (typeof id === 'string') expect(message).toContain(`received a string of ${id.length} characters`)
        else expect(message).toContain(`received ${typeof id}.`)
      }),
    )
  })
})

describe('getContext, where no request is active', () => {
  it('says what happened, why, and what mends it', () => {
    const error = thrownBy(getContext)
    expect(isThroughlineError(error)).toBe(true)
    const { code, message, why, fix, name } = error as ThroughlineError
    expect([code, name]).toEqual(['CONTEXT_MISSING', 'ThroughlineError'])
    expect(message).toBe(`There is no active request context. ${why} ${fix}`)
    expect(why).toContain("'use cache'")
    expect(fix).toContain('tryGetContext()')
    expect(fix).toContain('runWithCorrelation(id, fn)')
  })
})

describe('processWide', () => {
  it('keeps the first value of a name, whatever it is, on globalThis', () => {
    for (const first of ['a', 0, null, undefined]) {
      const name = `test.${first}`
      expect(processWide<unknown>(name, () => first)).toBe(first)
      expect(processWide<unknown>(name, () => expect.unreachable())).toBe(first)
      const slot = (globalThis as Record<symbol, unknown>)[Symbol.for('throughline.v1')]
      expect(slot).toBeInstanceOf(Map)
      expect((slot as Map<string, unknown>).get(name)).toBe(first)
    }
  })
})

describe('two copies of this package in one process, as Next bundles them', () => {
  it('share the context of a request', async () => {
    const copy = await anotherCopy()
    expect(copy.context.getContext).not.toBe(getContext)
    expect(copy.context.contextStorage).toBe(contextStorage)
    runWithCorrelation('order-7', () => {
      expect(copy.context.getContext()).toBe(getContext())
      copy.context.runWithCorrelation('order-8', () => expect(getCorrelationId()).toBe('order-8'))
    })
  })

  it("know each other's errors", async () => {
    const copy = await anotherCopy()
    const theirs = thrownBy(copy.context.getContext)
    expect(theirs).not.toBeInstanceOf(ThroughlineError)
    expect(isThroughlineError(theirs)).toBe(true)
    expect(copy.errors.isThroughlineError(thrownBy(getContext))).toBe(true)
  })
})

describe('isThroughlineError', () => {
  it('does not take other values for an error of this package', () => {
    const lookalike = Object.assign(new Error('no'), { name: 'ThroughlineError', code: 'CONTEXT_MISSING' })
    for (const value of [lookalike, new Error('no'), null, undefined, 'CONTEXT_MISSING', {}]) {
      expect(isThroughlineError(value)).toBe(false)
    }
  })

  it('knows an error by a mark that no log line shows', () => {
    const error = new ThroughlineError('STORE_UNAVAILABLE', 'It did not run.', {
      why: 'The store is out.',
      fix: 'Try later.',
      cause: new Error('ECONNREFUSED'),
    })
    expect(isThroughlineError(error)).toBe(true)
    expect(Object.keys(error).sort()).toEqual(['code', 'fix', 'name', 'why'])
    expect(error.cause).toEqual(new Error('ECONNREFUSED'))
    expect('cause' in new ThroughlineError('STORE_UNAVAILABLE', '', { why: '', fix: '' })).toBe(false)
  })
})

async function* ticks(count: number): AsyncGenerator<number> {
  for (let tick = 0; tick < count; tick++) yield tick
}

async function anotherCopy() {
  vi.resetModules()
  return {
    context: await import('../../src/context/index.ts'),
    errors: await import('../../src/errors.ts'),
  }
}

function thrownBy(fn: () => RequestContext | unknown): unknown {
  try {
    fn()
  } catch (error) {
    return error
  }
  return expect.unreachable('It did not throw.')
}
