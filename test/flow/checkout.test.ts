/**
 * The checkout example in a real browser, with and without JavaScript: embedded (PGlite), and on real Postgres and
 * Redis with a worker process. Charges are made at a payment sandbox of the test's own.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import pg from 'pg'
import type { BrowserContext, Locator, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Sandbox, startSandbox } from '../../examples/checkout/payment-sandbox/sandbox.ts'
import { listOrders } from '../../examples/demo/order-page.ts'
import type { FoundTrace } from '../../src/query/traces/find-trace.ts'
import { startChromium } from '../support/chromium.ts'
import { mustRun, runCommand } from '../support/command.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { buildApp, type NextServer, startApp } from '../support/next-server.ts'
import { REPOSITORY } from '../support/packed-package.ts'
import { startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'

const EXAMPLE = join(REPOSITORY, 'examples/checkout')
const THROUGHLINE = join(REPOSITORY, 'dist/src/cli/main.js')

const [browser, redis, postgres] = await Promise.all([startChromium(), startRedis(), startPostgres()])
const hasServers = redis !== undefined && postgres !== undefined

describe.skipIf(browser === undefined)('the checkout example in a browser', () => {
  beforeAll(async () => {
    await buildApp(EXAMPLE, { env: { DATABASE_URL: undefined, REDIS_URL: undefined } })
  })
  afterAll(async () => {
    await browser?.close()
    await redis?.stop()
    await postgres?.stop()
  })

  describe.each([
    { set: 'embedded', isOnServers: false },
    { set: 'on Postgres and Redis', isOnServers: true },
  ])('$set', ({ isOnServers }) => {
    let sandbox: Sandbox
    let server: NextServer
    let worker: Worker | undefined
    let context: BrowserContext

    beforeAll(async () => {
      if (isOnServers && !hasServers) return
      sandbox = await startSandbox({ latencyMs: 20, failureRate: 0 })
      const urls = isOnServers
        ? { DATABASE_URL: postgres?.url, REDIS_URL: redis?.url }
        : { DATABASE_URL: undefined, REDIS_URL: undefined }
      const env = { ...urls, PAYMENT_URL: sandbox.url }
      server = await startApp(EXAMPLE, 'start', { env, warmUpPath: '/' })
      if (isOnServers) worker = await startWorker({ ...env, THROUGHLINE_DIR: server.directory })
    })
    afterAll(async () => {
      await worker?.stop()
      await server?.stop()
      await sandbox?.stop()
    })
    afterEach(() => context?.close())

    describe.skipIf(isOnServers && !hasServers)('with JavaScript', () => {
      let page: Page
      beforeEach(async () => {
        ;({ context, page } = await openPage(server, true))
      })

      it('places an order, and rotates the key after success', async () => {
        const form = page.getByTestId('guarded')
        const key = form.locator('input[name=idempotencyKey]')
        const firstKey = await key.inputValue()
        expect(firstKey).toMatch(/^[0-9a-f]{32}$/)
        await form.getByRole('button').click()
        await page.getByText(/Order \d+ is placed/).waitFor()
        await eventually(async () => expect(await key.inputValue()).not.toBe(firstKey))
        expect(await key.inputValue()).toMatch(/^[0-9a-f]{32}$/)
      })

      it('makes one order of a click whose request is sent twice, and flags the second', async () => {
        const before = await orderCount(page, server)
        const [request, response] = await clickOrder(page)
        const first = await response
        const again = await context.request.post(server.url, {
          headers: {
            'next-action': (await request.headerValue('next-action')) ?? '',
            'next-router-state-tree': (await request.headerValue('next-router-state-tree')) ?? '',
            accept: 'text/x-component',
            'content-type': (await request.headerValue('content-type')) ?? '',
          },
          data: request.postDataBuffer() ?? '',
        })
        expect(again.status()).toBe(200)
        expect(await orderCount(page, server)).toBe(before + 1)
        const firstId = first.headers()['x-correlation-id'] ?? ''
        const secondId = again.headers()['x-correlation-id'] ?? ''
        await eventually(async () => {
          const spans = (await server.spans()).filter((span) => span.traceId === secondId)
          const root = spans.find((span) => span.parentSpanId === '')
          const action = spans.find((span) => span.name === 'action createOrder')
          for (const span of [root, action]) {
            expect(span?.attributes).toMatchObject({
              'next.server_action.name': 'createOrder',
              'action.outcome': 'ok',
              'idempotency.hit': true,
              'idempotency.outcome': 'replay',
              'idempotency.origin.trace_id': firstId,
            })
            expect(span?.links[0]?.traceId).toBe(firstId)
          }
        })
      })

      it('has a clicked order paid, and shows that without a click', async () => {
        const { orderId } = await placeOrder(page)
        await payment(page, orderId, 'paid').waitFor()
        const charges = sandbox.charges().filter((charge) => charge.orderId === orderId)
        expect(charges).toEqual([{ id: expect.any(String), orderId, cents: 750 }])
      })

      it('leaves all that came of a click under the one ID of its response, also when an answer is lost', async () => {
        sandbox.failNext('after')
        const { orderId, correlationId } = await placeOrder(page)
        await payment(page, orderId, 'paid').waitFor()
        expect(sandbox.charges().filter((charge) => charge.orderId === orderId)).toHaveLength(1)

        const { spans, logs } = await eventually(async () => {
          const found = await readTrace(server, correlationId)
          const attempts = found.spans.filter(({ name }) => name.startsWith('process '))
          expect(attempts.map(({ name }) => name).sort()).toEqual([
            'process email.receipt',
            'process payment.charge',
            'process payment.charge',
          ])
          expect(found.logs.filter(({ message }) => message === 'message handled')).toHaveLength(2)
          return found
        })
        const inRequest = spans.filter(({ traceId }) => traceId === correlationId)
        const named = (wanted: string) => inRequest.find(({ name }) => name === wanted)
        const request = named('POST /')
        const action = named('action createOrder')
        expect(request).toMatchObject({ kind: 'server', service: 'checkout' })
        expect(action?.parentSpanId).toBe(request?.spanId)
        for (const name of ['INSERT orders', 'INSERT order_items'])
          expect(named(name)).toMatchObject({ kind: 'client', parentSpanId: action?.spanId })
        for (const topic of ['payment.charge', 'email.receipt'])
          expect(named(`send ${topic}`)).toMatchObject({ kind: 'producer', parentSpanId: action?.spanId })

        const attempts = spans.filter(({ name }) => name.startsWith('process '))
        expect(new Set([correlationId, ...attempts.map(({ traceId }) => traceId)]).size).toBe(4)
        for (const attempt of attempts) {
          expect(attempt).toMatchObject({
            kind: 'consumer',
            service: isOnServers ? 'checkout-worker' : 'checkout',
            attributes: { 'correlation.id': correlationId, 'next.server_action.name': 'createOrder' },
          })
          expect(attempt.parentSpanId).toBeUndefined()
          const sent = attempt.links.find(({ attributes }) => attributes['outbox.sent'] === true)
          expect(sent?.spanId).toBe(named(attempt.name.replace('process', 'send'))?.spanId)
        }
        const [first, second] = attempts.filter(({ name }) => name === 'process payment.charge')
        expect(first).toMatchObject({ status: 'error', attributes: { 'outbox.attempt': 1 } })
        expect(second).toMatchObject({ status: 'unset', attributes: { 'outbox.attempt': 2 } })
        expect(second?.links).toContainEqual({
          traceId: first?.traceId,
          spanId: first?.spanId,
          attributes: { 'outbox.previous_attempt': true },
        })
        for (const attempt of [first, second]) {
          const calls = spans.filter(({ parentSpanId }) => parentSpanId === attempt?.spanId)
          expect(calls.map(({ attributes }) => attributes['url.full'] ?? attributes['http.url'])).toContain(
            `${sandbox.url}/charges`,
          )
        }
        const update = spans.find(({ name }) => name === 'UPDATE orders')
        const completion = spans.find(({ spanId }) => spanId === update?.parentSpanId)
        expect(completion).toMatchObject({ name: 'transaction', parentSpanId: second?.spanId })
        expect(logs.map(({ message }) => message)).toEqual(
          expect.arrayContaining(['order placed', 'message failed', 'receipt sent', 'request completed']),
        )
      })

      it('disables the button while an order is under way', async () => {
        let release = () => {}
        const held = new Promise<void>((resolve) => {
          release = resolve
        })
        await page.route('**/*', async (route) => {
          if (route.request().method() === 'POST') await held
          await route.continue()
        })
        const button = page.getByTestId('guarded').getByRole('button')
        await button.click()
        await page.getByText('Placing…').waitFor()
        expect(await button.isDisabled()).toBe(true)
        release()
        await page.getByText(/Order \d+ is placed/).waitFor()
      })

      it('says why an order was refused, and takes the corrected one', async () => {
        const form = page.getByTestId('guarded')
        const quantity = form.getByLabel('Quantity')
        await quantity.evaluate((input: HTMLInputElement) => {
          input.removeAttribute('max')
          input.value = '1000'
        })
        await form.getByRole('button').click()
        await page.getByText('Order between 1 and 99.').waitFor()
        await quantity.fill('3')
        await form.getByRole('button').click()
        await page.getByText(/Order \d+ is placed/).waitFor()
      })
    })

    it.skipIf(isOnServers && !hasServers)(
      'places an order without JavaScript, once for a form sent again',
      async () => {
        let page: Page
        ;({ context, page } = await openPage(server, false))
        const before = await orderCount(page, server)
        await page.getByTestId('guarded').getByRole('button').click()
        await page.getByText(/Order \d+ is placed/).waitFor()
        // Reloading the answer of a form sends the form again, with its key.
        await page.reload()
        await page.getByText(/Order \d+ is placed/).waitFor()
        expect(await orderCount(page, server)).toBe(before + 1)
      },
    )

    it.skipIf(isOnServers && !hasServers)(
      'shows without JavaScript that an order waits for its charge, and when read again that it is paid',
      async () => {
        let page: Page
        ;({ context, page } = await openPage(server, false))
        sandbox.failNext('before')
        // Another order than the last: without JavaScript, what is ordered is the key.
        await page.getByTestId('guarded').getByLabel('Quantity').fill('2')
        const { orderId } = await placeOrder(page)
        await payment(page, orderId, 'charging…').waitFor()
        // A search by text passes it over.
        expect(await page.locator('noscript').isVisible()).toBe(true)
        await eventually(async () => {
          await page.goto(server.url)
          expect(await payment(page, orderId, 'paid').count()).toBe(1)
        })
      },
    )

    it.skipIf(isOnServers && !hasServers)(
      'answers the action written by hand, or says that it needs a Redis',
      async () => {
        let page: Page
        ;({ context, page } = await openPage(server, true))
        await page.getByTestId('by-hand').getByRole('button').click()
        await page.getByText(isOnServers ? /Order \d+ is placed/ : 'This one needs a Redis').waitFor()
      },
    )

    it.skipIf(isOnServers && !hasServers)('has charged each order once, and nothing else', async () => {
      const guarded = await eventually(async () => {
        const orders = (await listOrders(server.url)).filter(({ way }) => way === 'guarded')
        expect(new Set(orders.map((order) => order.payment))).toEqual(new Set(['paid']))
        return orders.map(({ id }) => id).sort()
      })
      // As a list: a charge that was made twice would stand in it twice.
      expect(
        sandbox
          .charges()
          .map(({ orderId }) => orderId)
          .sort(),
      ).toEqual(guarded)
    })
  })

  describe('while its Redis is down, and without a payment provider', () => {
    it('places orders by the database alone, once per key, and charges at a sandbox of its own', async () => {
      const env = {
        DATABASE_URL: undefined,
        REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
        PAYMENT_URL: undefined,
        FAILURE_RATE: '0',
      }
      const server = await startApp(EXAMPLE, 'start', { env, warmUpPath: '/' })
      const { context, page } = await openPage(server, true)
      const { orderId } = await placeOrder(page)
      expect(await orderCount(page, server)).toBe(1)
      await payment(page, orderId, 'paid').waitFor()
      await context.close()
      await server.stop()
    })
  })

  describe.skipIf(postgres === undefined)('while its records cannot be reached', () => {
    it('refuses an order with the reason, runs nothing, and keeps the key for the next try', async () => {
      const database = new pg.Client({ connectionString: postgres?.url })
      await database.connect()
      await database.query('CREATE DATABASE broken')
      await database.end()
      const url = (postgres?.url ?? '').replace(/\/postgres$/, '/broken')
      const env = { DATABASE_URL: url, REDIS_URL: undefined }
      const server = await startApp(EXAMPLE, 'start', { env, warmUpPath: '/' })
      const broken = new pg.Client({ connectionString: url })
      await broken.connect()
      await broken.query('DROP TABLE throughline_idempotency')
      await broken.end()
      const { context, page } = await openPage(server, true)
      const key = page.getByTestId('guarded').locator('input[name=idempotencyKey]')
      const firstKey = await key.inputValue()
      await page.getByTestId('guarded').getByRole('button').click()
      await page.getByText('STORE_UNAVAILABLE').waitFor()
      expect(await key.inputValue()).toBe(firstKey)
      expect(await orderCount(page, server)).toBe(0)
      await context.close()
      const lines = await server.logs()
      expect(lines.filter((line) => line.msg === 'order placed')).toEqual([])
      expect(lines.find((line) => line.msg === 'action refused')).toMatchObject({
        level: 50,
        action: 'createOrder',
        err: { code: 'STORE_UNAVAILABLE' },
      })
      expect(JSON.stringify(lines)).not.toContain(firstKey)
      await eventually(async () => {
        const action = (await server.spans()).find((span) => span.name === 'action createOrder')
        expect(action?.attributes['error.type']).toBe('STORE_UNAVAILABLE')
      })
      await server.stop()
    })
  })

  it.skipIf(postgres === undefined)('ends a worker that knows no payment provider, and says so', async () => {
    const env = { ...process.env, DATABASE_URL: postgres?.url, PAYMENT_URL: undefined }
    const command = [THROUGHLINE, 'worker', './worker.ts']
    const { exitCode, stderr } = await runCommand(process.execPath, command, { cwd: EXAMPLE, env })
    expect(exitCode).toBe(1)
    expect(stderr).toContain('PAYMENT_URL is not set. Start the payment sandbox, npm run sandbox')
  })

  async function openPage(server: NextServer, javaScriptEnabled: boolean) {
    if (browser === undefined) throw new Error('no browser')
    const context = await browser.newContext({ javaScriptEnabled })
    const page = await context.newPage()
    await page.goto(server.url)
    if (javaScriptEnabled)
      await page
        .locator('[data-testid=guarded] input[name=idempotencyKey]:enabled')
        .waitFor({ state: 'attached' })
    return { context, page }
  }

  async function clickOrder(page: Page) {
    const request = page.waitForRequest((candidate) => candidate.method() === 'POST')
    await page.getByTestId('guarded').getByRole('button').click()
    await page.getByText(/Order \d+ is placed/).waitFor()
    const sent = await request
    const response = sent.response().then((answer) => {
      if (answer === null) throw new Error('no response')
      return answer
    })
    return [sent, response] as const
  }

  async function placeOrder(page: Page): Promise<{ orderId: number; correlationId: string }> {
    const [, response] = await clickOrder(page)
    const text = await page.getByText(/Order \d+ is placed/).textContent()
    const correlationId = (await response).headers()['x-correlation-id'] ?? ''
    return { orderId: Number(/\d+/.exec(text ?? '')?.[0]), correlationId }
  }

  /** The cell of that order which says this. */
  function payment(page: Page, orderId: number, text: string): Locator {
    const row = page.getByRole('row').filter({
      has: page.getByRole('cell', { name: String(orderId), exact: true }).first(),
    })
    return row.getByRole('cell', { name: text, exact: true })
  }

  /** The highest order number: each order takes the next. */
  async function orderCount(page: Page, server: NextServer): Promise<number> {
    const html = await (await page.context().request.get(server.url)).text()
    return Number(/<tbody><tr><td>(\d+)<\/td>/.exec(html)?.[1] ?? 0)
  }

  it.skipIf(!hasServers)('leaves the rows and the ID of their requests in Postgres', async () => {
    const client = new pg.Client({ connectionString: postgres?.url })
    await client.connect()
    const { rows } = await client.query("SELECT count(*)::int AS n FROM orders WHERE way = 'guarded'")
    await client.end()
    expect(rows[0].n).toBe(8)
    const log = postgres?.log()
    if (log !== undefined)
      expect(log).toMatch(
        /INSERT INTO orders .*\/\*action='createOrder',correlation_id='[0-9a-f]{32}',route='%2F',traceparent=/,
      )
    // By the worker, under the same ID.
    if (log !== undefined)
      expect(log).toMatch(
        /UPDATE orders SET payment = 'paid' .*\/\*action='createOrder',correlation_id='[0-9a-f]{32}',traceparent=/,
      )
  })
})

interface Worker {
  stop(): Promise<void>
}

/** `throughline worker` of the example, once it works. */
async function startWorker(env: NodeJS.ProcessEnv): Promise<Worker> {
  const child = spawn(process.execPath, [THROUGHLINE, 'worker', './worker.ts'], {
    cwd: EXAMPLE,
    env: { ...process.env, OTEL_BSP_SCHEDULE_DELAY: '100', OTEL_SERVICE_NAME: 'checkout-worker', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  const closed = once(child, 'close')
  await eventually(() => expect(output).toContain('working:'), 20_000)
  return {
    async stop() {
      child.kill('SIGTERM')
      const [exitCode] = await closed
      expect(exitCode, output).toBe(0)
    },
  }
}

/** What the command finds. */
async function readTrace(server: NextServer, id: string): Promise<FoundTrace> {
  const command = [THROUGHLINE, 'trace', id, '--json', '--dir', server.directory]
  return JSON.parse((await mustRun(process.execPath, command)).stdout)
}
