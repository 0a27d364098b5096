/**
 * Forms in a real browser, against a real Postgres, in an app built from the packed tarball: what people and
 * networks do to a form, and how many rows it leaves.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import type { BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest'
import { migrate } from '../../src/idempotency/stores/postgres.ts'
import { startChromium } from '../support/chromium.ts'
import { buildApp, type NextServer, startApp } from '../support/next-server.ts'
import { installApp } from '../support/packed-package.ts'
import { startPostgres } from '../support/postgres.ts'

const [browser, postgres] = await Promise.all([startChromium(), startPostgres()])

describe.skipIf(browser === undefined || postgres === undefined)('a form in a browser', () => {
  let server: NextServer
  let pool: pg.Pool
  let context: BrowserContext
  let item: string

  beforeAll(async () => {
    pool = new pg.Pool({ connectionString: postgres?.url })
    await pool.query('CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL)')
    await migrate(pool)
    const app = await installApp('forms-app', {
      tarball: inject('tarball'),
      workDirectory: inject('workDirectory'),
      packages: [
        'next',
        'react',
        'react-dom',
        '@opentelemetry/api',
        '@opentelemetry/sdk-node',
        'pg',
        'typescript@6',
        '@types/pg',
        '@types/node',
        '@types/react',
      ],
    })
    const env = { DATABASE_URL: postgres?.url }
    await buildApp(app, { env })
    server = await startApp(app, 'start', { env, warmUpPath: '/' })
  })
  afterAll(async () => {
    await server?.stop()
    await browser?.close()
    await pool?.end()
    await postgres?.stop()
  })
  beforeEach(() => {
    item = randomUUID()
  })
  afterEach(() => context?.close())

  it('holds no key in the HTML that every visitor gets', async () => {
    const html = await (await fetch(server.url)).text()
    expect(html).toMatch(/<input[^>]*name="idempotencyKey"[^>]*>/)
    const [field = ''] = /<input[^>]*name="idempotencyKey"[^>]*>/.exec(html) ?? []
    expect(field).toContain('disabled')
    expect(field).toContain('value=""')
  })

  it('makes one order of a double click', async () => {
    const page = await open('/')
    await page.locator('[name=item]').fill(item)
    await page.getByRole('button').dblclick()
    await placed(page)
    expect(await orders()).toBe(1)
  })

  it('makes one order of two submits that the button did not stop', async () => {
    const page = await open('/')
    await page.locator('[name=item]').fill(item)
    await page.locator('form').evaluate((form: HTMLFormElement) => {
      form.requestSubmit()
      form.requestSubmit()
    })
    await placed(page)
    await page.waitForLoadState('networkidle')
    expect(await orders()).toBe(1)
  })

  it('makes one order when the back button brings the form back, and replays its redirect', async () => {
    const page = await open('/')
    await page.locator('[name=item]').fill(item)
    const key = await keyOf(page)
    await page.getByRole('button').click()
    await placed(page)
    const first = page.url()
    await page.goBack()
    await ready(page)
    expect(await keyOf(page)).toBe(key)
    await page.locator('[name=item]').fill(item)
    await page.getByRole('button').click()
    await placed(page)
    expect(page.url()).toBe(first)
    expect(await orders()).toBe(1)
    await expectReplay('createOrder')
  })

  it('makes one order when the form stayed on the page, and another from where the answer led', async () => {
    const page = await open('/here')
    await page.locator('[name=item]').fill(item)
    const key = await keyOf(page)
    await page.getByRole('button').click()
    await placed(page)
    const first = page.url()
    await expect.poll(() => keyOf(page)).not.toBe(key)
    await page.goBack()
    await expect.poll(() => keyOf(page)).toBe(key)
    await page.locator('[name=item]').fill(item)
    await page.getByRole('button').click()
    await placed(page)
    expect(page.url()).toBe(first)
    expect(await orders()).toBe(1)
    await expect.poll(() => keyOf(page)).not.toBe(key)
    await page.locator('[name=item]').fill(item)
    await page.getByRole('button').click()
    await expect.poll(() => orders()).toBe(2)
  })

  it('makes another order on another visit', async () => {
    const page = await open('/')
    for (let visit = 1; visit <= 2; visit += 1) {
      await ready(page)
      await page.locator('[name=item]').fill(item)
      await page.getByRole('button').click()
      await placed(page)
      expect(await orders()).toBe(visit)
      await page.getByRole('link', { name: 'Another' }).click()
    }
  })

  it('sends the same key after a reload, and another one after the answer', async () => {
    const page = await open('/notes')
    const key = await keyOf(page)
    await page.reload()
    await ready(page)
    expect(await keyOf(page)).toBe(key)
    await page.locator('[name=item]').fill(item)
    await page.getByRole('button').click()
    await placed(page)
    await expect.poll(() => keyOf(page)).not.toBe(key)
    await page.locator('[name=item]').fill(item)
    await page.getByRole('button').click()
    await expect.poll(() => orders()).toBe(2)
  })

  it('makes one order of a cart that two tabs submit', async () => {
    const one = await open('/cart')
    const other = await context.newPage()
    await other.goto(`${server.url}/cart`)
    await ready(other)
    expect(await keyOf(other)).toBe(await keyOf(one))
    for (const page of [one, other]) await page.locator('[name=item]').fill(item)
    await Promise.all([one, other].map((page) => page.getByRole('button').click()))
    await Promise.all([placed(one), placed(other)])
    expect(one.url()).toBe(other.url())
    expect(await orders()).toBe(1)
  })

  it('makes one order without JavaScript, for a form sent again within its window', async () => {
    const page = await open('/', false)
    for (let turn = 0; turn < 2; turn += 1) {
      await page.goto(server.url)
      await page.locator('[name=item]').fill(item)
      await page.getByRole('button').click()
      await placed(page)
    }
    expect(await orders()).toBe(1)
    await page.goto(server.url)
    await page.locator('[name=item]').fill(`${item} and milk`)
    await page.getByRole('button').click()
    await placed(page)
    expect(await orders(`${item} and milk`)).toBe(1)
  })

  it('tells the forms of a list apart without JavaScript, by what is bound to their actions', async () => {
    const page = await open('/bound', false)
    for (const row of ['one', 'two', 'two']) {
      await page.goto(`${server.url}/bound`)
      await page.getByRole('button', { name: `Order ${row}` }).click()
      await placed(page)
    }
    expect([await orders('row one'), await orders('row two')]).toEqual([1, 1])
  })

  it('makes one order when the answer is lost and Next sends the action again', async () => {
    const page = await open('/')
    await page.locator('[name=item]').fill(item)
    const posts = await loseFirstAnswer(page)
    await page.getByRole('button').click()
    await placed(page)
    expect(posts()).toBeGreaterThan(1)
    expect(await orders()).toBe(1)
  })

  it('replays notFound() and forbidden() as themselves', async () => {
    for (const [path, text, action] of [
      ['/missing', 'There is no such thing.', 'findNothing'],
      ['/private', 'You may not.', 'enterPrivate'],
    ] as const) {
      const page = await open(path)
      await page.locator('[name=item]').fill(item)
      const key = await keyOf(page)
      await page.getByRole('button').click()
      await page.getByText(text).waitFor()
      await page.reload()
      await ready(page)
      expect(await keyOf(page)).toBe(key)
      await page.locator('[name=item]').fill(item)
      await page.getByRole('button').click()
      await page.getByText(text).waitFor()
      await expectReplay(action)
      await context.close()
    }
    expect(await orders()).toBe(2)
  })

  it('calls an action again with the same key when the network fails: useIdempotentAction', async () => {
    const page = await open('/hook')
    const posts = await loseFirstAnswer(page, 2)
    const before = await orders('hook')
    await page.getByRole('button', { name: 'Place order' }).click()
    await placed(page)
    expect(posts()).toBe(3)
    expect(await orders('hook')).toBe(before + 1)
    await page.getByRole('button', { name: 'Place order' }).click()
    await expect.poll(() => orders('hook')).toBe(before + 2)
  })

  it('sends a key each for two payloads at once: useIdempotentAction', async () => {
    const page = await open('/hook')
    await page.getByRole('button', { name: 'Place two' }).click()
    await expect.poll(() => orders('hook-tea')).toBe(1)
    await expect.poll(() => orders('hook-coffee')).toBe(1)
  })

  it('sends another key with other content when the form went away with its answer', async () => {
    const page = await open('/dialog')
    for (const content of [item, `${item} again`]) {
      await page.getByRole('button', { name: 'Open' }).click()
      await ready(page)
      await page.locator('[name=item]').fill(content)
      await page.getByRole('button', { name: 'Place order' }).click()
      await placed(page)
      await page.locator('form').waitFor({ state: 'detached' })
      await expect.poll(() => orders(content)).toBe(1)
    }
  })

  it('never gives two forms of a page one key, wherever a form is added', async () => {
    const page = await open('/rows')
    const keys = () =>
      page
        .locator('[name=idempotencyKey]:enabled')
        .evaluateAll((fields) => fields.map((field) => (field as HTMLInputElement).value))
    await expect.poll(keys).toHaveLength(2)
    await page.getByRole('button', { name: 'Add' }).click()
    await expect.poll(keys).toHaveLength(3)
    expect(new Set(await keys()).size).toBe(3)
  })

  async function open(path: string, javaScriptEnabled = true): Promise<Page> {
    if (browser === undefined) throw new Error('no browser')
    context = await browser.newContext({ javaScriptEnabled })
    const page = await context.newPage()
    await page.goto(server.url + path)
    if (javaScriptEnabled) await ready(page)
    return page
  }

  /** The page is alive: its key is there, or it has none. */
  async function ready(page: Page) {
    if (
      ['/hook', '/rows'].includes(new URL(page.url()).pathname) ||
      (await page.locator('form').count()) === 0
    )
      return page.waitForLoadState('networkidle')
    return expect.poll(() => keyOf(page).catch(() => '')).toMatch(/^[0-9a-f]{32}$/)
  }

  const keyOf = (page: Page) => page.locator('[name=idempotencyKey]').inputValue({ timeout: 2_000 })
  const placed = (page: Page) => page.getByText(/Order \d+ is placed/).waitFor()

  async function orders(of = item): Promise<number> {
    const { rows } = await pool.query('SELECT count(*)::int AS n FROM orders WHERE item = $1', [of])
    return rows[0].n
  }

  /** Lets the first posts reach the server, and loses its answers. */
  async function loseFirstAnswer(page: Page, times = 1): Promise<() => number> {
    let posts = 0
    await page.route('**/*', async (route) => {
      if (route.request().method() !== 'POST') return route.continue()
      posts += 1
      if (posts > times) return route.continue()
      await route.fetch({ maxRedirects: 0 })
      return route.abort('connectionreset')
    })
    return () => posts
  }

  async function expectReplay(action: string) {
    await expect
      .poll(
        async () => {
          const spans = (await server.spans()).filter(({ name }) => name === `action ${action}`)
          return spans.map(({ attributes }) => attributes['idempotency.outcome'])
        },
        { timeout: 5_000 },
      )
      .toContain('replay')
  }
})
