import { type NextFetchEvent, NextRequest, NextResponse } from 'next/server.js'
import { describe, expect, it } from 'vitest'
import { getContext, runWithCorrelation, tryGetContext } from '../../src/context/index.ts'
import { type Proxy as NextProxy, withCorrelation } from '../../src/next/with-correlation.ts'

const URL_OF_APP = 'https://shop.example/orders?page=2'
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736'
const EVENT = {} as NextFetchEvent

describe('withCorrelation, with no handler', () => {
  it('sends every header of the request on, and the ID with them', async () => {
    const headers = {
      cookie: 'session=1; theme=dark',
      authorization: 'Bearer a',
      'x-shop': 'a, b',
      traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01`,
    }
    const response = await pass(withCorrelation(), headers)
    expect(headersSentOn(response)).toEqual({ ...headers, 'x-correlation-id': TRACE_ID })
    expect(response.headers.get('x-correlation-id')).toBe(TRACE_ID)
  })

  it('keeps a valid ID that came in, and makes one where none came', async () => {
    for (const headers of [{ 'x-correlation-id': 'order-7' }, {}]) {
      const response = await pass(withCorrelation(), headers)
      const id = response.headers.get('x-correlation-id')
      expect(id).toMatch('x-correlation-id' in headers ? /^order-7$/ : /^[0-9a-f]{32}$/)
      expect(headersSentOn(response)['x-correlation-id']).toBe(id)
    }
  })

  it('puts an ID of its own in the place of a bad one', async () => {
    for (const bad of ['order 7', 'order-7, order-8', '<script>', 'x'.repeat(129)]) {
      const response = await pass(withCorrelation(), { 'x-correlation-id': bad })
      expect(response.headers.get('x-correlation-id')).toMatch(/^[0-9a-f]{32}$/)
      expect(headersSentOn(response)['x-correlation-id']).toBe(response.headers.get('x-correlation-id'))
      expect([...response.headers.values()].join()).not.toContain(bad)
    }
  })

  it('agrees with the server hook, where that opened the context', async () => {
    const response = await runWithCorrelation('order-7', () =>
      pass(withCorrelation(), { 'x-correlation-id': 'order-8' }),
    )
    expect(response.headers.get('x-correlation-id')).toBe('order-7')
    expect(headersSentOn(response)['x-correlation-id']).toBe('order-7')
  })

  it('leaves the request that it was given as it was', async () => {
    const request = new NextRequest(URL_OF_APP, { headers: { 'x-correlation-id': 'order 7' } })
    await withCorrelation()(request, EVENT)
    expect(request.headers.get('x-correlation-id')).toBe('order 7')
  })
})

describe('withCorrelation, around a handler', () => {
  it('calls it with request and event, in the context of the request', async () => {
    const request = new NextRequest(URL_OF_APP, { headers: { 'x-correlation-id': 'order-7' } })
    const seen: unknown[] = []
    await withCorrelation(async (...args) => {
      await Promise.resolve()
      seen.push(...args, getContext().correlationId)
    })(request, EVENT)
    expect(seen).toEqual([request, EVENT, 'order-7'])
    expect(tryGetContext()).toBeUndefined()
  })

  it.each([undefined, null, true])('lets the request go on when it returns %s', async (nothing) => {
    const response = await pass(
      withCorrelation(() => nothing),
      { 'x-shop': 'a' },
    )
    expect(response.headers.get('x-middleware-next')).toBe('1')
    expect(headersSentOn(response)).toMatchObject({ 'x-shop': 'a' })
  })

  it('keeps its headers and cookies when the request goes on', async () => {
    const handler: NextProxy = () => {
      const response = NextResponse.next({ headers: { 'x-frame-options': 'DENY' } })
      response.cookies.set('session', '1', { httpOnly: true })
      response.cookies.set('theme', 'dark')
      return response
    }
    const response = await pass(withCorrelation(handler), { 'x-shop': 'a', 'x-correlation-id': 'order-7' })
    expect(response.headers.get('x-frame-options')).toBe('DENY')
    expect(response.headers.getSetCookie()).toEqual(['session=1; Path=/; HttpOnly', 'theme=dark; Path=/'])
    // How Next lets the page read cookies that its proxy has just set.
    expect(response.headers.get('x-middleware-set-cookie')).toContain('session=1')
    expect(headersSentOn(response)).toEqual({ 'x-shop': 'a', 'x-correlation-id': 'order-7' })
  })

  it('keeps the request headers that it set, and those that it left out', async () => {
    const handler: NextProxy = (request) => {
      const headers = new Headers(request.headers)
      headers.delete('x-internal')
      headers.set('x-user', 'ada')
      return NextResponse.next({ request: { headers } })
    }
    for (const id of ['order-7', 'order 7']) {
      const response = await pass(withCorrelation(handler), {
        'x-shop': 'a',
        'x-internal': 'b',
        'x-correlation-id': id,
      })
      expect(headersSentOn(response)).toEqual({
        'x-shop': 'a',
        'x-user': 'ada',
        'x-correlation-id': response.headers.get('x-correlation-id'),
      })
      expect(response.headers.get('x-correlation-id')).not.toBe('order 7')
    }
  })

  it('keeps a redirect', async () => {
    const handler: NextProxy = (request) => {
      const response = NextResponse.redirect(new URL('/sign-in', request.url), 303)
      response.cookies.set('back', '/orders')
      return response
    }
    const response = await pass(withCorrelation(handler), { 'x-correlation-id': 'order-7' })
    expect(response.status).toBe(303)
    expect(response.headers.get('location')).toBe('https://shop.example/sign-in')
    expect(response.headers.getSetCookie()).toEqual(['back=%2Forders; Path=/'])
    expect(response.headers.get('x-correlation-id')).toBe('order-7')
    expect(response.headers.has('x-middleware-next')).toBe(false)
  })

  it('keeps a redirect made without Next, whose headers cannot be changed', async () => {
    const handler: NextProxy = (request) => Response.redirect(new URL('/sign-in', request.url))
    const response = await pass(withCorrelation(handler), { 'x-correlation-id': 'order-7' })
    expect(response.status).toBe(302)
    expect(response.headers.get('location')).toBe('https://shop.example/sign-in')
    expect(response.headers.get('x-correlation-id')).toBe('order-7')
  })

  it('keeps an answer of its own, with status and body', async () => {
    const handler: NextProxy = () =>
      Response.json({ error: 'closed' }, { status: 503, headers: { 'retry-after': '60' } })
    const response = await pass(withCorrelation(handler), { 'x-correlation-id': 'order-7' })
    expect([response.status, await response.json()]).toEqual([503, { error: 'closed' }])
    expect(Object.fromEntries(response.headers)).toEqual({
      'content-type': 'application/json',
      'retry-after': '60',
      'x-correlation-id': 'order-7',
    })
  })

  it('sends the ID on with a request that is rewritten', async () => {
    const handler: NextProxy = (request) => NextResponse.rewrite(new URL('/eu/orders', request.url))
    const response = await pass(withCorrelation(handler), { 'x-shop': 'a' })
    expect(response.headers.get('x-middleware-rewrite')).toBe('https://shop.example/eu/orders')
    expect(headersSentOn(response)).toEqual({
      'x-shop': 'a',
      'x-correlation-id': response.headers.get('x-correlation-id'),
    })
  })

  it('lets its error through', async () => {
    const fail: NextProxy = () => Promise.reject(new Error('no session store'))
    await expect(pass(withCorrelation(fail), {})).rejects.toThrow('no session store')
  })
})

describe('withCorrelation, with a header of another name', () => {
  const options = { header: 'x-request-id' }

  it('sets that one on request and response, and no other', async () => {
    const response = await pass(withCorrelation(undefined, options), { 'x-shop': 'a' })
    const id = response.headers.get('x-request-id')
    expect(id).toMatch(/^[0-9a-f]{32}$/)
    expect(response.headers.has('x-correlation-id')).toBe(false)
    expect(headersSentOn(response)).toEqual({ 'x-shop': 'a', 'x-request-id': id })
  })

  it('reads that one', async () => {
    const response = await pass(withCorrelation(undefined, options), { 'x-request-id': 'order-7' })
    expect(response.headers.get('x-request-id')).toBe('order-7')
    expect(headersSentOn(response)).toEqual({ 'x-request-id': 'order-7' })
  })

  it('puts an ID of its own in the place of a bad one', async () => {
    const response = await pass(withCorrelation(undefined, options), { 'x-request-id': 'order 7' })
    expect(headersSentOn(response)['x-request-id']).toMatch(/^[0-9a-f]{32}$/)
  })
})

async function pass(proxy: NextProxy, headers: Record<string, string>): Promise<Response> {
  const response = await proxy(new NextRequest(URL_OF_APP, { headers }), EVENT)
  return response instanceof Response ? response : expect.unreachable('It gave no response.')
}

/** The headers that the app will see: Next drops all that are not in the list, and takes the values beside it. */
function headersSentOn({ headers }: Response): Record<string, string | null> {
  const list = headers.get('x-middleware-override-headers')
  const names = list?.split(',').map((name) => name.trim()) ?? []
  return Object.fromEntries(names.map((name) => [name, headers.get(`x-middleware-request-${name}`)]))
}
