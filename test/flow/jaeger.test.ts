/** The demo's scenario on the checkout example and its worker, whose spans go to a real Jaeger. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Sandbox, startSandbox } from '../../examples/checkout/payment-sandbox/sandbox.ts'
import { type Findings, playScenario } from '../../examples/demo/scenario.ts'
import { eventually } from '../support/eventually.ts'
import { type JaegerQuery, type JaegerSpan, queryJaeger } from '../support/jaeger/query.ts'
import { startJaeger } from '../support/jaeger/server.ts'
import { buildApp, type NextServer, startApp } from '../support/next-server.ts'
import { REPOSITORY } from '../support/packed-package.ts'
import { startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'

const EXAMPLE = join(REPOSITORY, 'examples/checkout')
const THROUGHLINE = join(REPOSITORY, 'dist/src/cli/main.js')

const [jaeger, redis, postgres] = await Promise.all([startJaeger(), startRedis(), startPostgres()])
const hasServers = jaeger !== undefined && redis !== undefined && postgres !== undefined

describe.skipIf(!hasServers)('the checkout example in Jaeger', () => {
  let sandbox: Sandbox
  let server: NextServer
  let stopWorker: () => Promise<unknown>
  let found: Findings
  let query: JaegerQuery

  beforeAll(async () => {
    await buildApp(EXAMPLE, { env: { DATABASE_URL: undefined, REDIS_URL: undefined } })
    sandbox = await startSandbox({ latencyMs: 20, failureRate: 0 })
    sandbox.failNext('after')
    const env = {
      ...{ DATABASE_URL: postgres?.url, REDIS_URL: redis?.url, PAYMENT_URL: sandbox.url },
      OTEL_EXPORTER_OTLP_ENDPOINT: jaeger?.otlpUrl,
      // It takes traces alone.
      ...{ OTEL_LOGS_EXPORTER: 'none', OTEL_METRICS_EXPORTER: 'none' },
    }
    server = await startApp(EXAMPLE, 'start', { env, warmUpPath: '/' })
    stopWorker = await startWorker({ ...env, OTEL_SERVICE_NAME: 'checkout-worker' })
    const shop = { url: server.url, paymentUrl: sandbox.url, hasRedis: true }
    found = await playScenario(shop, () => {})
    expect(found.checks.filter(({ isMet }) => !isMet)).toEqual([])
    query = queryJaeger(jaeger?.url ?? '')
    await eventually(async () => expect(await attempts()).toHaveLength(3))
  })
  afterAll(async () => {
    await stopWorker?.()
    await server?.stop()
    await sandbox?.stop()
    await Promise.all([jaeger?.stop(), redis?.stop(), postgres?.stop()])
  })

  /** The worker's spans around its attempts at the messages of the first order. */
  const attempts = async (): Promise<JaegerSpan[]> => {
    const traceIds = await query.search('checkout-worker', { 'correlation.id': found.orderId })
    const spans = (await Promise.all(traceIds.map(query.trace))).flat()
    return spans.filter(({ parentSpanId, name }) => parentSpanId === undefined && name.startsWith('process '))
  }

  it('is found by service, action, correlation ID, and by the key that was used again', async () => {
    expect(await query.services()).toEqual(expect.arrayContaining(['checkout', 'checkout-worker']))
    const ids = { order: found.orderId, repeat: found.repeatId, byHand: found.byHandRepeatId }
    const all = await query.search('checkout')
    expect(all).toEqual(expect.arrayContaining(Object.values(ids)))
    const byAction = await query.search('checkout', { 'next.server_action.name': 'createOrder' })
    expect(byAction).toEqual(expect.arrayContaining([ids.order, ids.repeat]))
    expect(byAction).not.toContain(ids.byHand)
    expect(await query.search('checkout', { 'correlation.id': ids.repeat })).toEqual([ids.repeat])
    const hits = await query.search('checkout', { 'idempotency.hit': 'true' })
    expect(hits).toEqual(expect.arrayContaining([ids.repeat, ids.byHand]))
    expect(hits).not.toContain(ids.order)
    // 1 replay, 4 of the five at once, 1 mismatch; by hand 1 replay, and of the five what came after one had set the key.
    expect(hits.length).toBeGreaterThanOrEqual(7)
  })

  it('is one tree for each trace, without orphans and without a remark of Jaeger', async () => {
    const traceIds = [...(await query.search('checkout')), ...(await query.search('checkout-worker'))]
    expect(traceIds.length).toBeGreaterThan(10)
    for (const traceId of new Set(traceIds)) {
      const spans = await query.trace(traceId)
      const known = new Set(spans.map(({ spanId }) => spanId))
      const roots = spans.filter(({ parentSpanId }) => parentSpanId === undefined)
      const orphans = spans.filter(
        ({ parentSpanId }) => parentSpanId !== undefined && !known.has(parentSpanId),
      )
      const warnings = await query.warnings(traceId)
      const shown = spans.map(({ name, spanId, parentSpanId }) => ({ name, spanId, parentSpanId }))
      expect({ traceId, roots: roots.length, orphans, warnings, shown }).toEqual({
        ...{ traceId, roots: 1, orphans: [], warnings: [], shown },
      })
    }
  })

  it('has the first use of a key behind the link of its second', async () => {
    const repeat = await query.trace(found.repeatId)
    const linked = repeat.flatMap(({ links }) => links)
    expect(linked.map(({ traceId }) => traceId)).toContain(found.orderId)
    const first = await query.trace(found.orderId)
    for (const link of linked.filter(({ traceId }) => traceId === found.orderId))
      expect(first.map(({ spanId }) => spanId)).toContain(link.spanId)
    const root = repeat.find(({ parentSpanId }) => parentSpanId === undefined)
    expect(root?.attributes).toMatchObject({
      ...{
        'idempotency.hit': true,
        'idempotency.outcome': 'replay',
        'next.server_action.name': 'createOrder',
      },
      'idempotency.origin.trace_id': found.orderId,
    })
  })

  it('has links from what the worker made of a message to the request that sent it', async () => {
    const first = await query.trace(found.orderId)
    const spanIds = first.map(({ spanId }) => spanId)
    for (const attempt of await attempts()) {
      const back = attempt.links.filter(({ traceId }) => traceId === found.orderId)
      expect(back.length).toBeGreaterThan(0)
      for (const { spanId } of back) expect(spanIds).toContain(spanId)
    }
  })
})

async function startWorker(env: NodeJS.ProcessEnv): Promise<() => Promise<unknown>> {
  const child = spawn(process.execPath, [THROUGHLINE, 'worker', './worker.ts'], {
    cwd: EXAMPLE,
    env: { ...process.env, OTEL_BSP_SCHEDULE_DELAY: '100', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk
    })
  const closed = once(child, 'close')
  await eventually(() => expect(output).toContain('working:'), 20_000)
  return () => {
    child.kill('SIGTERM')
    return closed
  }
}
