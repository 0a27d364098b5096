/**
 * Log lines as OTLP log records: child processes on the built package, which export to a receiver in this one,
 * by OTLP over HTTP with JSON.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { mustRun } from '../support/command.ts'
import { freePort } from '../support/free-port.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

let receiver: Server
let endpoint: string
let received: { path: string; body: Received }[]
beforeEach(async () => {
  received = []
  receiver = createServer(async (request, response) => {
    received.push({ path: request.url ?? '', body: (await json(request)) as Received })
    response.setHeader('content-type', 'application/json').end('{}')
  })
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  endpoint = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`
})
afterEach(() => {
  receiver.closeAllConnections()
  receiver.close()
})

describe('a log line with an OTLP endpoint', () => {
  it('is a record with its text, time, severity, and the trace context of its span', async () => {
    const { lines } = await run(`
      await register()
      trace.getTracer('app').startActiveSpan('order', (span) => {
        logger.info({ orderId: 7 }, 'order placed')
        span.end()
      })
    `)
    const [line] = lines
    const [span] = spansReceived()
    expect(logsReceived()).toEqual([
      {
        timeUnixNano: String(BigInt(Number(line?.time)) * 1_000_000n),
        observedTimeUnixNano: expect.stringMatching(/^\d{19}$/),
        severityNumber: 9,
        severityText: 'INFO',
        body: 'order placed',
        traceId: span?.traceId,
        spanId: span?.spanId,
        flags: 1,
        attributes: { orderId: 7 },
      },
    ])
  })

  it('of a request, and the one that closes it, belong to its spans and have their names for its fields', async () => {
    const { lines } = await run(`
      await register()
      const { url, close } = await serve(() =>
        trace.getTracer('app').startActiveSpan('request', (span) => {
          getContext().action = { name: 'createOrder' }
          getContext().route = '/orders/[id]'
          getContext().idempotency = { outcome: 'replay', key_hash: '7b72', hit: true, suspect_of: '50c0' }
          span.end()
        }),
      )
      await (await fetch(url + 'orders?token=a')).text()
      await close()
    `)
    const [span] = spansReceived()
    const [record] = logsReceived()
    expect(record).toMatchObject({ body: 'request completed', traceId: span?.traceId, spanId: span?.spanId })
    expect(record?.attributes).toEqual({
      'correlation.id': lines[0]?.correlation_id,
      'next.server_action.name': 'createOrder',
      'http.route': '/orders/[id]',
      'http.request.method': 'GET',
      'url.path': '/orders',
      'http.response.status_code': 200,
      duration_ms: lines[0]?.duration_ms,
      'idempotency.outcome': 'replay',
      'idempotency.key_hash': '7b72',
      'idempotency.hit': true,
      'idempotency.suspect.key_hash': '50c0',
    })
    // What spans and lines both say has one name.
    expect(span?.attributes['correlation.id']).toBe(record?.attributes['correlation.id'])
  })

  it('shares the resource of the spans, and does not repeat the service', async () => {
    await run(`await register(); logger.info('started'); trace.getTracer('app').startSpan('order').end()`, {
      OTEL_RESOURCE_ATTRIBUTES: 'service.version=1.2.3,deployment.environment.name=test',
    })
    const resources = received.map(({ body }) => (body.resourceLogs ?? body.resourceSpans)?.[0]?.resource)
    expect(resources).toHaveLength(2)
    expect(resources[0]).toEqual(resources[1])
    expect(attributesOf(resources[0]?.attributes ?? [])).toMatchObject({
      'service.name': 'shop',
      'service.version': '1.2.3',
      'deployment.environment.name': 'test',
    })
    expect(logsReceived()[0]?.attributes).toEqual({})
  })

  it('has the severity of its level, also of one between those of pino', async () => {
    await run(`
      await throughline({ logLevel: 'trace' }).register()
      for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) logger[level](level)
      const custom = logger.child({}, { customLevels: { low: 5, notice: 35, audit: 75 }, level: 'low' })
      custom.low('low')
      custom.notice('notice')
      custom.audit('audit')
    `)
    expect(
      logsReceived().map(({ body, severityNumber, severityText }) => [body, severityNumber, severityText]),
    ).toEqual([
      ['trace', 1, 'TRACE'],
      ['debug', 5, 'DEBUG'],
      ['info', 9, 'INFO'],
      ['warn', 13, 'WARN'],
      ['error', 17, 'ERROR'],
      ['fatal', 21, 'FATAL'],
      ['low', 1, 'TRACE'],
      ['notice', 11, 'INFO3'],
      ['audit', 24, 'FATAL4'],
    ])
  })

  it('has its error under the names of the conventions, with the digest and the causes', async () => {
    await run(`
      await register()
      const cause = new TypeError('no row')
      logger.error(Object.assign(new RangeError('no stock', { cause }), { digest: '314159', code: 'E1' }))
    `)
    const [record] = logsReceived()
    expect(record).toMatchObject({ body: 'no stock', severityNumber: 17 })
    expect(record?.attributes).toEqual({
      'exception.type': 'RangeError',
      'exception.message': 'no stock',
      'exception.stacktrace': expect.stringMatching(/^RangeError: no stock\n {4}at /),
      'exception.code': 'E1',
      'exception.cause.type': 'TypeError',
      'exception.cause.message': 'no row',
      'exception.cause.stack': expect.stringMatching(/^TypeError: no row\n {4}at /),
      'error.digest': '314159',
    })
  })

  it('keeps what is redacted redacted, and nested fields by dotted names', async () => {
    await run(`
      await register()
      logger.child({ token: 'hunter2' }).info(
        { user: { password: 'hunter2', name: 'Ada' }, list: [1, 'a', { b: null }], status: 'sent', none: null },
        'line',
      )
    `)
    expect(JSON.stringify(logsReceived())).not.toContain('hunter2')
    expect(logsReceived()[0]?.attributes).toMatchObject({
      token: '[redacted]',
      'user.password': '[redacted]',
      'user.name': 'Ada',
      list: [1, 'a', expect.anything()],
      // No HTTP status: the line has no method and path.
      status: 'sent',
    })
  })

  it('keeps its trace ID as an attribute where no spans are recorded', async () => {
    const { lines } = await run(
      `
      await register()
      runWithCorrelation('order-7', () => logger.info('order placed'))
      `,
      { OTEL_TRACES_EXPORTER: 'none' },
    )
    expect(logsReceived()[0]?.attributes).toEqual({
      'correlation.id': 'order-7',
      trace_id: lines[0]?.trace_id,
    })
  })

  it('calls no Date.now() where the line is written: it would abort a prerender', async () => {
    const { result } = await run(`
      const prerender = new AsyncLocalStorage()
      const { now } = Date
      let calls = 0
      Date.now = () => {
        if (prerender.getStore()) calls += 1
        return now.call(Date)
      }
      await register()
      prerender.run(true, () => {
        logger.info('page rendered')
        report({ calls })
      })
    `)
    expect(result).toEqual({ calls: 0 })
    expect(logsReceived()).toHaveLength(1)
  })
})

describe('nothing is exported', () => {
  it.each<[string, NodeJS.ProcessEnv, string]>([
    ['with OTEL_LOGS_EXPORTER=none', { OTEL_LOGS_EXPORTER: 'none' }, 'register()'],
    ['with OTEL_SDK_DISABLED', { OTEL_SDK_DISABLED: 'true' }, 'register()'],
    ['when the option says so', {}, 'throughline({ otlpLogs: false }).register()'],
  ])('%s', async (_when, env, registering) => {
    const { lines } = await run(`await ${registering}; logger.info('order placed')`, env)
    expect(lines).toHaveLength(1)
    expect(logsReceived()).toEqual([])
  })

  it('without an endpoint, though the SDK has a default one', async () => {
    // The default port cannot be listened on by chance, so the provider is asked.
    const { result } = await run(
      `
      let emitted = 0
      const provider = { getLogger: () => ({ emit: () => { emitted += 1 } }) }
      globalThis[Symbol.for('io.opentelemetry.js.api.logs')] = () => provider
      await register()
      logger.info('order placed')
      report({ emitted })
      `,
      { OTEL_EXPORTER_OTLP_ENDPOINT: undefined, OTEL_TRACES_EXPORTER: 'none', OTEL_METRICS_EXPORTER: 'none' },
    )
    expect(result).toEqual({ emitted: 0 })
  })
})

describe('where log lines go', () => {
  it('may be an endpoint of their own, beside the local files', async () => {
    await run(`await register(); logger.info('order placed')`, {
      OTEL_EXPORTER_OTLP_ENDPOINT: undefined,
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${endpoint}/logs-only`,
    })
    expect(received.map(({ path }) => path)).toEqual(['/logs-only'])
    expect(logsReceived()).toHaveLength(1)
  })

  it('is the log processor of an SDK that the user set up: @vercel/otel', async () => {
    const { result } = await run(`
      const exporter = new logs.InMemoryLogRecordExporter()
      registerOTel({ serviceName: 'shop', logRecordProcessors: [new logs.SimpleLogRecordProcessor({ exporter })] })
      await register()
      logger.info({ orderId: 7 }, 'order placed')
      report(exporter.getFinishedLogRecords().map(({ body, attributes }) => ({ body, attributes })))
    `)
    expect(result).toEqual([{ body: 'order placed', attributes: { orderId: 7 } }])
  })

  it('is the provider that the API of OpenTelemetry 3 keeps', async () => {
    const { result } = await run(
      `
      trace.setGlobalTracerProvider(new tracing.BasicTracerProvider())
      const emitted = []
      const provider = { getLogger: () => ({ emit: ({ body }) => emitted.push(body) }) }
      globalThis[Symbol.for('opentelemetry.js.api.1')].logs = provider
      await register()
      logger.info('order placed')
      report(emitted)
      `,
    )
    expect(result).toEqual(['order placed'])
  })

  it('is said when the option asks for what no SDK has', async () => {
    const { lines } = await run(`
      trace.setGlobalTracerProvider(new tracing.BasicTracerProvider())
      await throughline({ otlpLogs: true }).register()
    `)
    expect(lines).toEqual([expect.objectContaining({ msg: expect.stringMatching(/no logger provider/) })])
  })
})

describe('a collector that does not answer', () => {
  it('fails no request, and is warned of once, by a line that is not exported in turn', async () => {
    const { result, lines } = await run(
      `
      await register()
      const { url, close } = await serve(() => logger.info('order placed'))
      const statuses = []
      for (let request = 0; request < 5; request += 1) {
        statuses.push((await fetch(url)).status)
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
      await close()
      report({ statuses })
      `,
      {
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await freePort()}`,
        OTEL_TRACES_EXPORTER: 'none',
        OTEL_METRICS_EXPORTER: 'none',
        OTEL_EXPORTER_OTLP_TIMEOUT: '200',
        OTEL_BLRP_SCHEDULE_DELAY: '50',
      },
    )
    expect(result).toEqual({ statuses: [200, 200, 200, 200, 200] })
    const warnings = lines.filter(({ msg }) => /could not be exported/.test(String(msg)))
    expect(warnings).toHaveLength(1)
  })

  it('does not make the lines about it go round for ever, whoever logs them', async () => {
    receiver.removeAllListeners('request')
    let requests = 0
    receiver.on('request', (request, response) => {
      requests += 1
      request.resume()
      response.writeHead(400).end('no')
    })
    const { lines } = await run(
      `
      await register()
      diag.setLogger({
        error: (message) => logger.error({ message: String(message) }, 'export failed'),
        warn() {}, info() {}, debug() {}, verbose() {},
      }, { logLevel: DiagLogLevel.ERROR, suppressOverrideMessage: true })
      logger.info('order placed')
      await new Promise((resolve) => setTimeout(resolve, 1000))
      `,
      { OTEL_TRACES_EXPORTER: 'none', OTEL_METRICS_EXPORTER: 'none', OTEL_BLRP_SCHEDULE_DELAY: '20' },
    )
    expect(lines.map(({ msg }) => msg)).toEqual(['order placed', 'export failed'])
    expect(requests).toBe(1)
  })
})

/** A protobuf value, as JSON has it. */
interface AnyValue {
  stringValue?: string
  intValue?: number | string
  doubleValue?: number
  boolValue?: boolean
  arrayValue?: { values?: AnyValue[] }
  kvlistValue?: { values?: KeyValue[] }
}

interface KeyValue {
  key: string
  value: AnyValue
}

type Attributed = { attributes?: KeyValue[] } & Record<string, unknown>

interface Received {
  resourceLogs?: {
    resource: { attributes: KeyValue[] }
    scopeLogs: { logRecords: (Attributed & { body?: AnyValue })[] }[]
  }[]
  resourceSpans?: { resource: { attributes: KeyValue[] }; scopeSpans: { spans: Attributed[] }[] }[]
}

type ReceivedRecord = Record<string, unknown> & { attributes: Record<string, unknown> }

function logsReceived(): ReceivedRecord[] {
  return received
    .flatMap(({ body }) => body.resourceLogs ?? [])
    .flatMap(({ scopeLogs }) => scopeLogs)
    .flatMap(({ logRecords }) => logRecords)
    .map(({ droppedAttributesCount: _, ...record }) => ({
      ...record,
      body: plainValue(record.body ?? {}),
      attributes: attributesOf(record.attributes ?? []),
    }))
}

function spansReceived(): ReceivedRecord[] {
  return received
    .flatMap(({ body }) => body.resourceSpans ?? [])
    .flatMap(({ scopeSpans }) => scopeSpans)
    .flatMap(({ spans }) => spans)
    .map((span) => ({ ...span, attributes: attributesOf(span.attributes ?? []) }))
}

function attributesOf(attributes: KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plainValue(value)]))
}

function plainValue(value: AnyValue): unknown {
  if (value.arrayValue !== undefined) return (value.arrayValue.values ?? []).map(plainValue)
  if (value.kvlistValue !== undefined) return attributesOf(value.kvlistValue.values ?? [])
  return value.stringValue ?? value.boolValue ?? value.doubleValue ?? value.intValue
}

/** What the scripts use; `report` hands a value to the test. */
const PRELUDE = `
  import { AsyncLocalStorage } from 'node:async_hooks'
  import { once } from 'node:events'
  import { createServer } from 'node:http'
  import { DiagLogLevel, diag, trace } from '@opentelemetry/api'
  import { logs, tracing } from '@opentelemetry/sdk-node'
  import { registerOTel } from '@vercel/otel'
  import { getContext, runWithCorrelation } from 'throughline'
  import { logger } from 'throughline/logging'
  import { register, throughline } from 'throughline/instrumentation'

  const report = (value) => console.log('REPORT ' + JSON.stringify(value))
  async function serve(handle) {
    const server = createServer(async (request, response) => {
      await handle(request)
      response.end('done')
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      url: 'http://127.0.0.1:' + server.address().port + '/',
      async close() {
        server.close()
        server.closeIdleConnections()
        await once(server, 'close')
        // The last line is written in the turn after the response is closed.
        await new Promise(setImmediate)
      },
    }
  }
`

/** Runs a script in a process of its own; resolves to what it reported, if it did, and to its log lines. */
async function run(
  script: string,
  env: NodeJS.ProcessEnv = {},
): Promise<{ result: unknown; lines: Record<string, unknown>[] }> {
  const { stdout } = await mustRun(process.execPath, ['--input-type=module', '--eval', PRELUDE + script], {
    cwd: REPOSITORY,
    env: {
      ...BARE_ENV,
      OTEL_SERVICE_NAME: 'shop',
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      OTEL_METRICS_EXPORTER: 'none',
      ...env,
    },
  })
  const written = stdout.split('\n').filter((line) => line !== '')
  const reported = written.find((line) => line.startsWith('REPORT '))
  return {
    result: reported === undefined ? undefined : JSON.parse(reported.slice('REPORT '.length)),
    lines: written.filter((line) => !line.startsWith('REPORT ')).map((line) => JSON.parse(line)),
  }
}

/** Without variables that would set up an SDK otherwise. */
const BARE_ENV = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(OTEL|THROUGHLINE|NEXT|NODE_ENV|VERCEL|VITEST)/.test(name),
  ),
)
