import { context, INVALID_SPAN_CONTEXT, trace } from '@opentelemetry/api'
import { node } from '@opentelemetry/sdk-node'
import fc from 'fast-check'
import type { Logger } from 'pino'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createContext, type RequestContext, runInContext } from '../../src/context/index.ts'
import { type CreateLoggerOptions, createLogger, logger } from '../../src/logging/index.ts'
import { setLoggingDefaults } from '../../src/logging/logger.ts'
import { logRequestCompleted } from '../../src/logging/request-line.ts'
import { collectLogLines, type LogLine } from './log-lines.ts'

// Registered for its context manager.
new node.NodeTracerProvider().register()
const tracer = trace.getTracer('test')
const sharedLines = collectLogLines()

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

describe('a log line', () => {
  it('bears the IDs of the request and of the active span, the action and the route', () => {
    const { log, last } = logTo()
    const request = requestContext({ action: { name: 'createOrder', file: 'app/actions.ts' } })
    request.route = '/orders/[id]'
    runInContext(request, () =>
      tracer.startActiveSpan('request', (span) => {
        log.info({ order_id: 1 }, 'order placed')
        expect(last()).toEqual({
          level: 30,
          time: expect.any(Number),
          service: 'shop',
          correlation_id: 'order-7',
          trace_id: span.spanContext().traceId,
          span_id: span.spanContext().spanId,
          trace_flags: 1,
          action: 'createOrder',
          route: '/orders/[id]',
          order_id: 1,
          msg: 'order placed',
        })
        span.end()
      }),
    )
  })

  it('bears the trace ID of its request where no span is active', () => {
    const { log, last } = logTo()
    runInContext(requestContext(), () => log.info('order placed'))
    expect(withoutTime(last())).toEqual({
      level: 30,
      service: 'shop',
      correlation_id: 'order-7',
      trace_id: TRACE_ID,
      msg: 'order placed',
    })
  })

  it('bears it too where the active span is one that nobody records, and has no IDs', () => {
    // As with OTEL_TRACES_EXPORTER=none: sdk-node then registers a context manager, but no tracer provider.
    const { log, last } = logTo()
    const unrecorded = trace.setSpan(context.active(), trace.wrapSpanContext(INVALID_SPAN_CONTEXT))
    runInContext(requestContext(), () => context.with(unrecorded, () => log.info('order placed')))
    expect(last().trace_id).toBe(TRACE_ID)
    expect(last()).not.toHaveProperty('span_id')
  })

  it('bears no ID outside a request', () => {
    const { log, last } = logTo()
    log.warn('started')
    expect(withoutTime(last())).toEqual({ level: 40, service: 'shop', msg: 'started' })
  })

  it('shows the request as it is when the line is written, whenever the logger was made', () => {
    const { log, lines } = logTo()
    const child = runInContext(requestContext({ id: 'first' }), () => log.child({ part: 'cart' }))
    runInContext(requestContext({ id: 'second' }), () => child.info('order placed'))
    child.info('idle')
    expect(lines().map((line) => [line.part, line.correlation_id])).toEqual([
      ['cart', 'second'],
      ['cart', undefined],
    ])
  })

  it('is one line of JSON, whatever its message holds', () => {
    const { log, written } = logTo()
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (message) => {
        written.length = 0
        log.info({ text: message }, 'said')
        log.info({}, '%s', message)
        expect(written).toHaveLength(2)
        for (const line of written) expect(line).toMatch(/^[^\n]+\n$/)
        expect(JSON.parse(written[0] ?? '').text).toBe(message)
      }),
    )
  })

  it('says when it was written in whole milliseconds of the epoch', () => {
    const { log, last } = logTo()
    log.info('started')
    expect(Number.isInteger(last().time)).toBe(true)
    // Wide enough for any clock skew, and far too narrow for seconds or for the time since start.
    expect(Math.abs(Number(last().time) - Date.now())).toBeLessThan(3_600_000)
  })

  it('is written without Date.now() and Math.random(), which abort a prerender', () => {
    const { log, lines } = logTo()
    const abort = () => {
      throw new Error('Route "/" used `Date.now()` during a prerender.')
    }
    vi.spyOn(Date, 'now').mockImplementation(abort)
    vi.spyOn(Math, 'random').mockImplementation(abort)
    log.info({ token: 'a' }, 'page rendered')
    log.child({ part: 'cart' }).error(new Error('no stock'))
    runInContext(requestContext(), () => logger.info('page rendered'))
    expect(lines()).toHaveLength(2)
    expect(sharedLines).toHaveLength(1)
  })

  it('takes its service name from the option, else from throughline(), else from OTEL_SERVICE_NAME', () => {
    const unnamed = logTo({})
    const named = logTo({ service: 'shop' })
    const services = () =>
      [unnamed, named].map(({ log, last }) => {
        log.info('started')
        return last().service
      })
    vi.stubEnv('OTEL_SERVICE_NAME', undefined)
    expect(services()).toEqual([undefined, 'shop'])
    vi.stubEnv('OTEL_SERVICE_NAME', 'from-env')
    expect(services()).toEqual(['from-env', 'shop'])
    setLoggingDefaults({ service: 'from-throughline' })
    expect(services()).toEqual(['from-throughline', 'shop'])
  })

  it('is left out below the lowest level: the option, else THROUGHLINE_LOG_LEVEL, else info', () => {
    vi.stubEnv('THROUGHLINE_LOG_LEVEL', undefined)
    expect(createLogger().level).toBe('info')
    vi.stubEnv('THROUGHLINE_LOG_LEVEL', 'warn')
    expect(createLogger().level).toBe('warn')
    expect(createLogger({ level: 'debug' }).level).toBe('debug')
    const { log, lines } = logTo({ level: 'error' })
    log.warn('left out')
    log.error('written')
    expect(lines().map((line) => line.msg)).toEqual(['written'])
  })

  it('of the shared logger obeys a level that is set after it was made', () => {
    logger.debug('left out')
    setLoggingDefaults({ level: 'debug' })
    logger.debug('written')
    expect(sharedLines.map((line) => [line.level, line.msg])).toEqual([[20, 'written']])
  })

  it('is written whatever is logged: logging never fails a request', () => {
    const { log, written } = logTo()
    const anything = fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true })
    fc.assert(
      fc.property(anything, (value) => {
        written.length = 0
        log.info({ value, nested: { value } }, 'fields')
        log.error({ err: value }, 'thrown')
        log.child({ value }).info('bound')
        expect(written).toHaveLength(3)
        for (const line of written) expect(() => JSON.parse(line)).not.toThrow()
      }),
    )
  })

  it('is written though a property cannot be read', () => {
    const { log, last } = logTo()
    const entity = Object.defineProperty({}, 'lines', {
      enumerable: true,
      get() {
        throw new Error('The relation "lines" is not loaded.')
      },
    })
    log.info({ entity }, 'order placed')
    expect(last().msg).toBe('order placed')
  })
})

describe('an error on a line', () => {
  it('shows type, message, stack, code and digest', () => {
    const { log, last } = logTo()
    const error = Object.assign(new RangeError('no stock'), { code: 'STOCK', digest: '1234' })
    log.error({ err: error }, 'action failed')
    expect(last()).toMatchObject({ level: 50, msg: 'action failed' })
    expect(last().err).toEqual({
      type: 'RangeError',
      message: 'no stock',
      stack: error.stack,
      code: 'STOCK',
      digest: '1234',
    })
  })

  it('gives the line its message when it is logged alone', () => {
    const { log, last } = logTo()
    log.error(new TypeError('no stock'))
    expect(last()).toMatchObject({ msg: 'no stock', err: { type: 'TypeError', message: 'no stock' } })
  })

  it("leaves out what else a driver puts on it: row values, the statement's parameters", () => {
    const { log, last, written } = logTo()
    const error = driverError()
    log.error({ err: error }, 'query failed')
    expect(Object.keys(last().err as object).sort()).toEqual(['code', 'message', 'stack', 'type'])
    expect(written.join()).not.toContain('ada@example.com')
  })

  it('leaves them out under any other name, and further down, too', () => {
    const { log, written } = logTo()
    const error = Object.assign(driverError(), { password: 'hunter2' })
    log.error({ error }, 'query failed')
    log.error({ job: { attempts: [{ reason: error }] } }, 'job failed')
    log.child({ reason: error }).error('gave up')
    expect(written.join()).not.toContain('ada@example.com')
    expect(written.join()).not.toContain('hunter2')
  })

  it('shows its causes, without the properties of theirs, as far as five deep', () => {
    const { log, last, written } = logTo()
    const errorAt = (depth: number): Error =>
      depth === 0 ? driverError() : new Error(`level ${depth}`, { cause: errorAt(depth - 1) })
    log.error({ err: errorAt(2) }, 'short chain')
    expect(last().err).toMatchObject({
      message: 'level 2',
      cause: { message: 'level 1', cause: { type: 'DatabaseError', code: '23505' } },
    })
    expect(written.join()).not.toContain('ada@example.com')
    log.error({ err: errorAt(20) }, 'long chain')
    expect(messagesOf(last().err)).toEqual([20, 19, 18, 17, 16, 15].map((depth) => `level ${depth}`))
  })

  it('may be its own cause', () => {
    const { log, last } = logTo()
    const error = new Error('again')
    error.cause = error
    log.error({ err: error }, 'went round')
    expect(messagesOf(last().err)).toEqual(Array(6).fill('again'))
  })

  it('need not be one: what was thrown is shown with its type', () => {
    const { log, lines } = logTo()
    const lookalike = { name: 'RemoteError', message: 'no stock', stack: 'at shop', detail: 'a secret' }
    for (const err of ['no stock', 42, lookalike, null, undefined]) log.error({ err }, 'thrown')
    const [text, number, remote, ...absent] = lines().map((line) => line.err)
    expect(text).toEqual({ type: 'string', message: 'no stock' })
    expect(number).toEqual({ type: 'number', message: '42' })
    expect(remote).toEqual({ type: 'RemoteError', message: 'no stock', stack: 'at shop' })
    for (const err of absent) expect(err ?? undefined).toBeUndefined()
  })
})

describe('secrets', () => {
  const SECRETS = [
    'authorization',
    'Authorization',
    'cookie',
    'set-cookie',
    'Set-Cookie',
    'password',
    'PASSWORD',
    'passwd',
    'secret',
    'token',
    'access_token',
    'accessToken',
    'refresh-token',
    'apiKey',
    'API_KEY',
    'X-Api-Key',
    'idempotencyKey',
    'Idempotency-Key',
    'idempotency_key',
  ]

  it.each(SECRETS)('under the name %s are blanked, at the top and below', (name) => {
    const { log, last } = logTo()
    log.info({ [name]: 'hunter2', user: { [name]: { value: 'hunter2' } } }, 'signed in')
    expect(last()).toMatchObject({ [name]: '[redacted]', user: { [name]: '[redacted]' } })
  })

  it.each(['tokens_used', 'passwordless', 'cookies', 'secretary', 'key', 'author'])(
    'are not suspected under %s',
    (name) => {
      const { log, last } = logTo()
      log.info({ [name]: 'open', user: { [name]: 1 } }, 'signed in')
      expect(last()).toMatchObject({ [name]: 'open', user: { [name]: 1 } })
    },
  )

  it('are blanked in lists, and lists of lists', () => {
    const { log, last } = logTo()
    log.info({ users: [{ name: 'ada', password: 'hunter2' }, [{ token: 'hunter2' }], 'eve', null] }, 'read')
    expect(last().users).toEqual([
      { name: 'ada', password: '[redacted]' },
      [{ token: '[redacted]' }],
      'eve',
      null,
    ])
  })

  it('are blanked in what toJSON returns', () => {
    const { log, last } = logTo()
    class User {
      readonly #password = 'hunter2'
      toJSON() {
        return { name: 'ada', password: this.#password, at: new Date(0) }
      }
    }
    log.info({ user: new User(), users: [new User()], at: new Date(0) }, 'read')
    const shown = { name: 'ada', password: '[redacted]', at: '1970-01-01T00:00:00.000Z' }
    expect(last()).toMatchObject({ user: shown, users: [shown], at: '1970-01-01T00:00:00.000Z' })
  })

  it('are blanked ten levels deep', () => {
    const { log, written } = logTo()
    let fields: object = { password: 'hunter2' }
    for (let depth = 0; depth < 10; depth++) fields = { inner: fields }
    log.info(fields, 'read')
    expect(written.join()).not.toContain('hunter2')
  })

  it('are blanked in the fields of a child, of its child, and in those set later', () => {
    const { log, written } = logTo()
    const child = log.child({ session: { token: 'hunter2' } }, { level: 'info' })
    const grandchild = child.child({ password: 'hunter2' })
    grandchild.setBindings({ cookie: 'hunter2', user: 'ada' })
    for (const each of [child, grandchild]) each.info({ secret: 'hunter2' }, 'signed in')
    expect(grandchild.bindings()).toMatchObject({ cookie: '[redacted]', user: 'ada' })
    expect(written).toHaveLength(2)
    expect(written.join()).not.toContain('hunter2')
    expect(written[1]).toContain('"session":{"token":"[redacted]"}')
  })

  it('do not make a line with a cycle endless', () => {
    const { log, last, written } = logTo()
    const user: Record<string, unknown> = { name: 'ada', password: 'hunter2' }
    user.self = user
    user.friends = [user, { best: user }]
    log.info({ user }, 'read')
    expect(last()).toMatchObject({ msg: 'read', user: { name: 'ada', password: '[redacted]' } })
    expect(written.join()).not.toContain('hunter2')
  })

  it('stay in the object of the caller, which is never changed', () => {
    const { log } = logTo()
    fc.assert(
      fc.property(fieldsWithSecrets({ hidden: 'hidden' }), (fields) => {
        const before = structuredClone(fields)
        deepFreeze(fields)
        log.info(fields, 'read')
        log.child(fields).setBindings(fields)
        expect(fields).toEqual(before)
      }),
    )
  })

  it('never reach the written line, wherever they stand', () => {
    const { log, written } = logTo()
    fc.assert(
      fc.property(fieldsWithSecrets({ hidden: 'hidden' }), fc.constantFrom(...PLACES), (fields, place) => {
        written.length = 0
        place(log, fields)
        expect(written).toHaveLength(1)
        expect(written[0]).not.toContain('hidden')
      }),
    )
  })

  it('are all that is changed: other fields are written as JSON has them', () => {
    const { log, last } = logTo()
    fc.assert(
      fc.property(fc.dictionary(fieldName, fc.jsonValue({ maxDepth: 2 })), (fields) => {
        log.info({ fields }, 'read')
        expect(last().fields).toEqual(JSON.parse(JSON.stringify(fields)))
      }),
    )
  })

  it('with no telling name are blanked by the option redact, beside the others', () => {
    const { log, last } = logTo({ redact: ['user.email', 'rows[*].iban'] })
    const fields = {
      user: { email: 'ada@example.com', name: 'ada', password: 'hunter2' },
      rows: [{ iban: 'DE00', id: 1 }],
    }
    log.info(fields, 'read')
    expect(last()).toMatchObject({
      user: { email: '[redacted]', name: 'ada', password: '[redacted]' },
      rows: [{ iban: '[redacted]', id: 1 }],
    })
    expect(fields.user.email).toBe('ada@example.com')
    expect(fields.rows[0]?.iban).toBe('DE00')
  })

  /** Names that no secret has. */
  const fieldName = fc.stringMatching(/^[a-z]{1,3}$/)

  /** Nested fields, in which every value below a secret name holds the given text, and no other does. */
  function fieldsWithSecrets({ hidden }: { hidden: string }): fc.Arbitrary<Record<string, unknown>> {
    const secretName = fc.constantFrom(...SECRETS)
    const secret = fc.oneof(
      fc.constant(hidden),
      fc.constant([hidden]),
      fc.constant({ a: { b: [hidden] } }),
      fc.constant({ toJSON: undefined, value: hidden }),
    )
    const { fields } = fc.letrec<{ fields: Record<string, unknown>; value: unknown }>((tie) => ({
      value: fc.oneof(
        { depthSize: 'large', withCrossShrink: true },
        fc.constantFrom('open', 1, true, null, undefined),
        fc.array(tie('value'), { maxLength: 3 }),
        tie('fields'),
      ),
      fields: fc
        .tuple(
          fc.dictionary(fieldName, tie('value'), { maxKeys: 3 }),
          fc.dictionary(secretName, secret, { maxKeys: 2 }),
        )
        .map(([open, secrets]) => ({ ...open, ...secrets })),
    }))
    return fields
  }

  /** The ways by which fields get onto a line. */
  const PLACES: readonly ((log: Logger, fields: Record<string, unknown>) => void)[] = [
    (log, fields) => log.info(fields, 'read'),
    (log, fields) => log.info({ list: [fields] }, 'read'),
    (log, fields) => log.info({ model: { toJSON: () => fields } }, 'read'),
    (log, fields) => log.error({ err: Object.assign(new Error('failed'), fields) }, 'read'),
    (log, fields) => log.child(fields).info('read'),
    (log, fields) => {
      const child = log.child({})
      child.setBindings(fields)
      child.info('read')
    },
  ]
})

describe('the line that closes a request', () => {
  it('sums up what the request did', () => {
    const request = requestContext({ method: 'POST', path: '/orders', action: { name: 'createOrder' } })
    request.route = '/orders'
    Object.assign(request.calls, {
      database: { count: 3, durationMs: 10.005_4 },
      kv: { count: 1, durationMs: 0.123_4 },
      fetch: { count: 2, durationMs: 250 },
    })
    request.idempotency = { outcome: 'replay', key_hash: '0123456789abcdef', hit: true, hits: 2 }
    runInContext(request, () =>
      logRequestCompleted(request, { status: 303, durationMs: 271.828_18, isAborted: false }),
    )
    expect(sharedLines).toHaveLength(1)
    const { time: _, service: __, ...line } = sharedLines[0] ?? {}
    expect(line).toEqual({
      level: 30,
      correlation_id: 'order-7',
      trace_id: TRACE_ID,
      action: 'createOrder',
      route: '/orders',
      method: 'POST',
      path: '/orders',
      status: 303,
      duration_ms: 271.83,
      database_calls: 3,
      database_ms: 10.01,
      kv_calls: 1,
      kv_ms: 0.12,
      fetch_calls: 2,
      fetch_ms: 250,
      idempotency: { outcome: 'replay', key_hash: '0123456789abcdef', hit: true, hits: 2 },
      msg: 'request completed',
    })
  })

  it('says nothing of what did not happen', () => {
    const request = requestContext({ method: 'GET', path: '/' })
    logRequestCompleted(request, { status: 200, durationMs: 1, isAborted: false })
    expect(Object.keys(sharedLines[0] ?? {}).filter((name) => name !== 'service')).toEqual([
      'level',
      'time',
      'method',
      'path',
      'status',
      'duration_ms',
      'msg',
    ])
  })

  it.each([
    [200, false, 30],
    [404, false, 30],
    [499, false, 30],
    [500, false, 50],
    [503, false, 50],
    [200, true, 40],
    [404, true, 40],
    [500, true, 50],
  ])('with status %i, aborted: %s, has level %i', (status, isAborted, level) => {
    logRequestCompleted(requestContext(), { status, durationMs: 1, isAborted })
    expect(sharedLines[0]).toMatchObject({ level, status })
    expect(sharedLines[0]?.aborted).toBe(isAborted ? true : undefined)
  })
})

/** A logger under test, and what it wrote. */
function logTo(options: CreateLoggerOptions = { service: 'shop' }) {
  const written: string[] = []
  const lines = (): LogLine[] => written.map((line) => JSON.parse(line))
  const log = createLogger({ ...options, destination: { write: (line) => void written.push(line) } })
  return { log, written, lines, last: () => lines().at(-1) ?? {} }
}

function requestContext({
  id = 'order-7',
  ...request
}: { id?: string } & Pick<RequestContext, 'method' | 'path' | 'action'> = {}): RequestContext {
  return createContext({ correlationId: id, traceId: TRACE_ID }, request)
}

function withoutTime({ time, ...line }: LogLine): LogLine {
  expect(time).toEqual(expect.any(Number))
  return line
}

/** As `pg` throws it: the values of a row are on the error. */
function driverError(): Error {
  const error = new Error('duplicate key value violates unique constraint "users_email_key"')
  return Object.assign(error, {
    name: 'DatabaseError',
    code: '23505',
    detail: 'Key (email)=(ada@example.com) already exists.',
    parameters: ['ada@example.com'],
  })
}

function messagesOf(logged: unknown): string[] {
  const { message, cause } = logged as { message: string; cause?: unknown }
  return cause === undefined ? [message] : [message, ...messagesOf(cause)]
}

function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null) return
  Object.freeze(value)
  Object.values(value).forEach(deepFreeze)
}
