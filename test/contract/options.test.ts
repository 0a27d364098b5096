import { join, resolve } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { resolveOptions, type ThroughlineOptions } from '../../instrumentation/options.ts'

afterEach(() => vi.unstubAllEnvs())

describe('resolveOptions', () => {
  it('has a default for everything', () => {
    expect(resolveOptions({}, {})).toEqual({
      serviceName: 'next-app',
      correlationHeaders: ['x-correlation-id'],
      propagateTo: [],
      idempotencyKeys: ['idempotency:*', 'idem:*'],
      sqlComments: true,
      sqlApplicationName: false,
      nextInternals: false,
      requestLog: true,
      logLevel: undefined,
      localFilesDirectory: resolve('.throughline'),
      otlpLogs: false,
      flushTimeoutMs: 5000,
    })
  })

  it('keeps what is given, also where it is empty, false or 0', () => {
    const given = {
      serviceName: 'shop',
      correlationHeaders: ['x-request-id', 'x-correlation-id'],
      propagateTo: ['*.example.com', /^api/],
      idempotencyKeys: [],
      raceStore: { eval: () => [] },
      sqlComments: false,
      sqlApplicationName: true,
      nextInternals: true,
      requestLog: false,
      logLevel: 'debug',
      otlpLogs: true,
      flushTimeoutMs: 0,
    }
    expect(resolveOptions({ ...given, localFiles: false }, { OTEL_SERVICE_NAME: 'other' })).toEqual({
      ...given,
      localFilesDirectory: undefined,
    })
  })

  it('takes the service name from OTEL_SERVICE_NAME, unless that is empty', () => {
    expect(resolveOptions({}, { OTEL_SERVICE_NAME: 'shop' }).serviceName).toBe('shop')
    expect(resolveOptions({}, { OTEL_SERVICE_NAME: '' }).serviceName).toBe('next-app')
  })

  it('takes the service name from OTEL_RESOURCE_ATTRIBUTES where OTEL_SERVICE_NAME is not set', () => {
    const OTEL_RESOURCE_ATTRIBUTES = 'deployment.environment.name=test, service.name=my%20shop,x=y'
    expect(resolveOptions({}, { OTEL_RESOURCE_ATTRIBUTES }).serviceName).toBe('my shop')
    expect(resolveOptions({}, { OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME: 'shop' }).serviceName).toBe(
      'shop',
    )
  })

  it('reads the variables of the process where no others are given', () => {
    vi.stubEnv('OTEL_SERVICE_NAME', 'shop')
    expect(resolveOptions({}).serviceName).toBe('shop')
  })
})

describe('a bad option is refused with a TypeError that names it and what it got', () => {
  it.each<[name: string, received: string, value: unknown]>([
    ['correlationHeaders', '[]', []],
    ['correlationHeaders', '""', ['']],
    ['correlationHeaders', '"X-Request-ID"', ['X-Request-ID']],
    ['correlationHeaders', '"x request id"', ['x-correlation-id', 'x request id']],
    ['correlationHeaders', '"x-correlation-id:"', ['x-correlation-id:']],
    ['correlationHeaders', '"x-id\\r\\nset-cookie"', ['x-id\r\nset-cookie']],
    // A text is a list of its letters, each of which is a valid header name.
    ['correlationHeaders', 'x-request-id', 'x-request-id'],
    ['propagateTo', 'api.example.com', 'api.example.com'],
    // A host is compared with `host:port`: an address never matches.
    ['propagateTo', 'https://api.example.com', ['https://api.example.com']],
    ['idempotencyKeys', 'idem:*', 'idem:*'],
    ['raceStore', 'string', 'redis://localhost'],
    ['raceStore', 'object', {}],
    ['raceStore', 'object', null],
    ['logLevel', 'loud', 'loud'],
    ['flushTimeoutMs', '-1', -1],
    ['flushTimeoutMs', 'NaN', Number.NaN],
    ['flushTimeoutMs', 'Infinity', Number.POSITIVE_INFINITY],
    ['flushTimeoutMs', '5000', '5000'],
    // More than a timer can hold: Node makes it 1 ms, and nothing would be flushed.
    ['flushTimeoutMs', '2147483648', 2 ** 31],
  ])('%s, received %s', (name, received, value) => {
    const resolveBad = () => resolveOptions({ [name]: value } as ThroughlineOptions, {})
    expect(resolveBad).toThrow(TypeError)
    expect(resolveBad).toThrow(`"${name}"`)
    expect(resolveBad).toThrow(received)
  })
})

describe('local files', () => {
  const directoryFor = (env: NodeJS.ProcessEnv, localFiles?: boolean) =>
    resolveOptions(localFiles === undefined ? {} : { localFiles }, env).localFilesDirectory

  it('are on in development, below the working directory or where THROUGHLINE_DIR says', () => {
    vi.stubEnv('NODE_ENV', 'development')
    expect(directoryFor({})).toBe(resolve('.throughline'))
    expect(directoryFor({ THROUGHLINE_DIR: '' })).toBe(resolve('.throughline'))
    expect(directoryFor({ THROUGHLINE_DIR: 'var/spans' })).toBe(join(process.cwd(), 'var/spans'))
    expect(directoryFor({ THROUGHLINE_DIR: '/var/spans' })).toBe('/var/spans')
  })

  it('are off in production, unless THROUGHLINE_DIR is set', () => {
    vi.stubEnv('NODE_ENV', 'production')
    expect(directoryFor({})).toBeUndefined()
    expect(directoryFor({ THROUGHLINE_DIR: '' })).toBeUndefined()
    expect(directoryFor({ THROUGHLINE_DIR: '/var/spans' })).toBe('/var/spans')
  })

  it.each([
    { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' },
    { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/v1/traces' },
    { OTEL_TRACES_EXPORTER: 'console' },
  ])('are off where spans go elsewhere: %j', (env) => {
    expect(directoryFor(env)).toBeUndefined()
    expect(directoryFor({ ...env, THROUGHLINE_DIR: '/var/spans' })).toBeUndefined()
  })

  it('are on or off when the option says so', () => {
    vi.stubEnv('NODE_ENV', 'production')
    expect(directoryFor({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' }, true)).toBe(
      resolve('.throughline'),
    )
    vi.stubEnv('NODE_ENV', 'development')
    expect(directoryFor({ THROUGHLINE_DIR: '/var/spans' }, false)).toBeUndefined()
  })
})
