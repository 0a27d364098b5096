/**
 * The checkout example in a real browser, with and without JavaScript: embedded (PGlite), and on real Postgres and
 * Redis.
 */
import { join } from 'node:path'
import pg from 'pg'
import type { BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startChromium } from '../support/chromium.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { buildApp, type NextServer, startApp } from '../support/next-server.ts'
import { REPOSITORY } from '../support/packed-package.ts'
import { startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'

const EXAMPLE = join(REPOSITORY, 'examples/checkout')

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
    let server: NextServer
    let context: BrowserContext

    beforeAll(async () => {
      if (isOnServers && !hasServers) return
      const env = isOnServers
        ? { DATABASE_URL: postgres?.url, REDIS_URL: redis?.url }
        : { DATABASE_URL: undefined, REDIS_URL: undefined }
      server = await startApp(EXAMPLE, 'start', { env, warmUpPath: '/' })
    })
    afterAll(() => server?.stop())
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
      'answers the action written by hand, or says that it needs a Redis',
      async () => {
        let page: Page
        ;({ context, page } = await openPage(server, true))
        await page.getByTestId('by-hand').getByRole('button').click()
        await page.getByText(isOnServers ? /Order \d+ is placed/ : 'This one needs a Redis').waitFor()
      },
    )
  })

  describe('while its Redis is down', () => {
    it('places orders by the database alone, once per key', async () => {
      const env = { DATABASE_URL: undefined, REDIS_URL: `redis://127.0.0.1:${await freePort()}` }
      const server = await startApp(EXAMPLE, 'start', { env, warmUpPath: '/' })
      const { context, page } = await openPage(server, true)
      await clickOrder(page)
      expect(await orderCount(page, server)).toBe(1)
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
    expect(rows[0].n).toBe(5)
    const log = postgres?.log()
    if (log !== undefined)
      expect(log).toMatch(
        /INSERT INTO orders .*\/\*action='createOrder',correlation_id='[0-9a-f]{32}',route='%2F',traceparent=/,
      )
  })
})
