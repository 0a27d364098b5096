/**
 * The same small app in other set-ups: on Next 15, without an SDK, on `@vercel/otel`, on OpenTelemetry 3,
 * with nothing listening at the collector's address, and ended by SIGTERM. Each still gives every request its ID.
 */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, inject, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { buildApp, type NextServer, startApp } from '../support/next-server.ts'
import { installApp } from '../support/packed-package.ts'

const REACT = ['react', 'react-dom']
const API = '@opentelemetry/api'
const BUILD = ['typescript@6', '@types/react', '@types/node']

let server: NextServer | undefined
afterEach(async () => {
  await server?.stop()
  server = undefined
})

describe('Next 15', () => {
  let app: string
  beforeAll(async () => {
    app = await install('next-15', ['next@15', API, '@opentelemetry/sdk-node'])
    const proxy = await readFile(join(app, 'proxy.ts'), 'utf8')
    await rename(join(app, 'proxy.ts'), join(app, 'middleware.ts'))
    await writeFile(join(app, 'middleware.ts'), proxy.replace('const proxy', 'const middleware'))
    await buildApp(app)
  })

  it.each(['start', 'dev'] as const)(
    'carries one ID through next %s, its edge middleware and an action',
    async (mode) => {
      server = await startApp(app, mode, { warmUpPath: '/api/echo' })
      await (await fetch(server.url)).text()
      await expectOneId(server)
      const response = await submitForm(server.url, { name: 'Ada' })
      expect(response.status).toBe(200)
      await expectSpan(server, response, 'POST /', { 'next.server_action.name': 'greet' })
    },
  )
})

describe('without an OpenTelemetry SDK', () => {
  it('serves with IDs and log lines, and says once which package brings spans', async () => {
    const app = await install('no-sdk', ['next', API])
    const output = await buildApp(app)
    expect(output).not.toMatch(/warn|can't resolve|not found:/i)
    server = await startApp(app, 'start', { warmUpPath: '/api/echo' })
    await expectOneId(server)
    const warnings = (await server.logs()).filter((line) =>
      String(line.msg).includes('npm install @opentelemetry/sdk-node'),
    )
    expect(warnings).toHaveLength(1)
  })
})

describe('on @vercel/otel', () => {
  it('puts the ID on its spans', async () => {
    const app = await install('vercel-otel', ['next', API, '@vercel/otel', ...VERCEL_PEERS])
    await buildApp(app)
    server = await startApp(app, 'start', { warmUpPath: '/api/echo', env: { VERCEL: '1' } })
    const response = await expectOneId(server)
    await expectSpan(server, response, 'GET /api/echo', {})
  })
})

describe('on OpenTelemetry 3', () => {
  it('puts the ID on its spans, and names the action', async () => {
    const app = await install('otel-3', ['next', `${API}@1.10`, '@opentelemetry/sdk-node@0.301'])
    await buildApp(app)
    server = await startApp(app, 'start', { warmUpPath: '/api/echo' })
    await expectSpan(server, await expectOneId(server), 'GET /api/echo', {})
    await (await fetch(server.url)).text()
    const response = await submitForm(server.url, { name: 'Ada' })
    await expectSpan(server, response, 'POST /', { 'next.server_action.name': 'greet' })
  })
})

describe('on @opentelemetry/sdk-node', () => {
  let app: string
  beforeAll(async () => {
    app = await install('sdk-node', ['next', API, '@opentelemetry/sdk-node'])
    await buildApp(app)
  })

  it('serves as before when no collector listens, and warns once', async () => {
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9', OTEL_EXPORTER_OTLP_TIMEOUT: '300' }
    server = await startApp(app, 'start', {
      warmUpPath: '/api/echo',
      env: { ...env, THROUGHLINE_DIR: undefined },
    })
    for (let request = 0; request < 3; request += 1) {
      expect((await fetch(`${server.url}/api/echo`)).status).toBe(200)
    }
    const running = server
    const warnings = () => running.output().split('telemetry could not be exported').length - 1
    await eventually(() => expect(warnings()).toBe(1), 20_000)
    await (await fetch(`${server.url}/api/echo`)).text()
    await server.end()
    expect(warnings()).toBe(1)
  })

  it('writes the spans of the last request when it is asked to end', async () => {
    server = await startApp(app, 'start', {
      warmUpPath: '/api/echo',
      env: { OTEL_BSP_SCHEDULE_DELAY: '60000' },
    })
    const response = await fetch(`${server.url}/api/echo`)
    await response.text()
    await server.end()
    const id = response.headers.get('x-correlation-id')
    expect((await server.spans()).filter((span) => span.traceId === id).map((span) => span.name)).toContain(
      'GET /api/echo',
    )
    // As Next alone ends on SIGTERM.
    expect(server.process.exitCode).toBe(143)
  })

  it('logs an error that reaches Next with its digest and the ID of its request', async () => {
    server = await startApp(app, 'start', { warmUpPath: '/api/echo' })
    await (await fetch(server.url)).text()
    const response = await callAction(server.url, { name: 'fail' })
    const id = response.headers.get('x-correlation-id')
    const running = server
    await eventually(async () => {
      const line = (await running.logs()).find((entry) => entry.msg === 'request error')
      expect(line).toMatchObject({
        correlation_id: id,
        action: 'greet',
        err: { type: 'Error', message: 'greeting failed', digest: expect.any(String) },
      })
    })
  })

  it('answers a repeated payment alike, and flags it on the span of its route', async () => {
    server = await startApp(app, 'start', { warmUpPath: '/api/echo' })
    const url = `${server.url}/api/payments/eur`
    const pay = (amount: number, key = '"order-7"') =>
      fetch(url, {
        method: 'POST',
        body: JSON.stringify({ amount }),
        headers: { 'content-type': 'application/json', 'idempotency-key': key },
      })
    const first = await pay(5)
    const again = await pay(5)
    for (const response of [first, again]) {
      expect(response.status).toBe(201)
      expect(await response.json()).toEqual({ number: 1, amount: 5, currency: 'eur' })
    }
    expect(again.headers.get('idempotent-replayed')).toBe('true')
    expect(again.headers.get('x-correlation-id')).not.toBe(first.headers.get('x-correlation-id'))
    expect((await pay(6)).status).toBe(422)
    expect((await pay(5, '')).status).toBe(400)
    await expectSpan(server, again, 'POST /api/payments/[currency]', {
      'idempotency.hit': true,
      'idempotency.outcome': 'replay',
      'idempotency.origin.trace_id': first.headers.get('x-correlation-id'),
    })
    await expectSpan(server, again, 'route createPayment', { 'idempotency.hit': true })
    expect((await server.logs()).filter((line) => line.msg === 'paid')).toHaveLength(1)
  })

  it('gives a refused correlation header a fresh ID, and never echoes or logs it', async () => {
    server = await startApp(app, 'start', { warmUpPath: '/api/echo' })
    const response = await fetch(`${server.url}/api/echo`, { headers: { 'x-correlation-id': 'evil"value' } })
    expect(response.headers.get('x-correlation-id')).toMatch(/^[0-9a-f]{32}$/)
    const running = server
    await eventually(async () => {
      expect(
        (await running.logs()).some(
          (line) => line.correlation_id === response.headers.get('x-correlation-id'),
        ),
      ).toBe(true)
    })
    expect(JSON.stringify([await server.logs(), await server.spans()]) + server.output()).not.toContain(
      'evil',
    )
  })
})

const VERCEL_PEERS = [
  '@opentelemetry/api-logs@0.223.0',
  '@opentelemetry/instrumentation@0.223.0',
  '@opentelemetry/resources@2',
  '@opentelemetry/sdk-logs@0.223.0',
  '@opentelemetry/sdk-metrics@2',
  '@opentelemetry/sdk-trace-base@2',
]

function install(name: string, packages: string[]): Promise<string> {
  return installApp('small-app', {
    name,
    tarball: inject('tarball'),
    workDirectory: inject('workDirectory'),
    packages: [...REACT, ...BUILD, ...packages],
  })
}

/** Header, request header, handler and log line agree. */
async function expectOneId(running: NextServer): Promise<Response> {
  const response = await fetch(`${running.url}/api/echo`, { headers: { 'x-other': 'kept' } })
  const id = response.headers.get('x-correlation-id')
  expect(id).toMatch(/^[0-9a-f]{32}$/)
  expect(await response.json()).toEqual({ correlationId: id, header: id, other: 'kept' })
  await eventually(async () => {
    const lines = (await running.logs()).filter((line) => line.correlation_id === id)
    expect(lines.map((line) => line.msg)).toContain('request completed')
  })
  return response
}

async function expectSpan(
  running: NextServer,
  response: Response,
  name: string,
  attributes: Record<string, unknown>,
): Promise<void> {
  const id = response.headers.get('x-correlation-id')
  await eventually(async () => {
    // Of a proxied request, two spans have the route's name.
    const spans = (await running.spans()).filter((span) => span.traceId === id && span.name === name)
    expect(spans.map((span) => span.attributes)).toContainEqual(
      expect.objectContaining({ 'correlation.id': id, ...attributes }),
    )
  })
}

/** Posts the page's form as a browser without JavaScript does. */
async function submitForm(url: string, fields: Record<string, string>): Promise<Response> {
  const body = new FormData()
  body.append(`$ACTION_ID_${await actionId(url)}`, '')
  for (const [name, value] of Object.entries(fields)) body.append(name, value)
  return fetch(url, { method: 'POST', body })
}

/** Calls the form's action as Next's client does. */
async function callAction(url: string, fields: Record<string, string>): Promise<Response> {
  const id = await actionId(url)
  const body = new FormData()
  for (const [name, value] of Object.entries(fields)) body.append(`_1_${name}`, value)
  body.append('0', '["$K1"]')
  return fetch(url, { method: 'POST', headers: { 'next-action': id, accept: 'text/x-component' }, body })
}

async function actionId(url: string): Promise<string> {
  const page = await (await fetch(url)).text()
  const id = /name="\$ACTION_ID_([0-9a-f]+)"/.exec(page)?.[1]
  if (id === undefined) throw new Error('The page has no form with an action.')
  return id
}
