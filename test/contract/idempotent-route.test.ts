import { randomUUID } from 'node:crypto'
import { SpanStatusCode } from '@opentelemetry/api'
import { redirect, unstable_rethrow } from 'next/navigation.js'
import { describe, expect, it } from 'vitest'
import type { IdempotencyStore } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { idempotentRoute } from '../../src/next/idempotent-route.ts'
import { recordSpans } from './action-spans.ts'
import { collectLogLines } from './log-lines.ts'

const { spansNamed } = recordSpans()
const lines = collectLogLines()

const TEA = { item: 'tea', quantity: 2 }

describe('idempotentRoute', () => {
  it('runs once, and answers a repeat with the status, body and headers of the first', async () => {
    const { POST, runs } = payments()
    const key = randomUUID()
    const first = await POST(payment(TEA, `"${key}"`), undefined)
    const again = await POST(payment(TEA, `"${key}"`), undefined)
    expect(runs()).toBe(1)
    expect([first.status, again.status]).toEqual([201, 201])
    expect(await first.json()).toEqual({ number: 1, item: 'tea' })
    expect(await again.json()).toEqual({ number: 1, item: 'tea' })
    for (const response of [first, again]) {
      expect(response.headers.get('content-type')).toBe('application/json')
      expect(response.headers.get('location')).toBe('/payments/1')
    }
    expect(first.headers.has('idempotent-replayed')).toBe(false)
    expect(again.headers.get('idempotent-replayed')).toBe('true')
  })

  it('replays no cookie, and the further headers that are named', async () => {
    const { POST } = payments({ replayHeaders: ['X-Cost'] })
    const key = randomUUID()
    const first = await POST(payment(TEA, key), undefined)
    const again = await POST(payment(TEA, key), undefined)
    expect(first.headers.get('set-cookie')).toBe('seen=1')
    expect(again.headers.has('set-cookie')).toBe(false)
    expect(again.headers.get('x-cost')).toBe('3')
  })

  it('replays bytes, and an answer without a body', async () => {
    const bytes = new Uint8Array([0, 255, 128, 10])
    const answers = [new Response(bytes, { headers: { etag: '"1"' } }), new Response(null, { status: 204 })]
    const POST = idempotentRoute(
      'bytes',
      { store: memoryStore(), scope: 'ada' },
      async () => answers.shift() ?? expect.unreachable('It ran again.'),
    )
    for (const key of ['file', 'empty']) await POST(payment(TEA, key), undefined)
    expect(new Uint8Array(await (await POST(payment(TEA, 'file'), undefined)).arrayBuffer())).toEqual(bytes)
    const empty = await POST(payment(TEA, 'empty'), undefined)
    expect([empty.status, empty.body]).toEqual([204, null])
  })

  it('takes one scope for another never', async () => {
    const { POST, runs } = payments({
      scope: (request: Request) => request.headers.get('x-user') ?? undefined,
    })
    await POST(payment(TEA, 'k', { 'x-user': 'ada' }), undefined)
    const other = await POST(payment(TEA, 'k', { 'x-user': 'bob' }), undefined)
    expect(runs()).toBe(2)
    expect(other.headers.has('idempotent-replayed')).toBe(false)
  })

  it('takes the same JSON in another order, and the same form behind another boundary, for the same', async () => {
    const { POST, runs } = payments()
    await POST(payment({ item: 'tea', quantity: 2 }, 'json'), undefined)
    await POST(payment({ quantity: 2, item: 'tea' }, 'json'), undefined)
    expect(runs()).toBe(1)
    const form = () => {
      const body = new FormData()
      body.set('item', 'tea')
      return new Request('http://shop.test/payments', {
        method: 'POST',
        body,
        headers: { 'idempotency-key': 'form' },
      })
    }
    await POST(form(), undefined)
    await POST(form(), undefined)
    expect(runs()).toBe(2)
  })

  it('leaves the body of the request to the handler', async () => {
    const POST = idempotentRoute('echo', { store: memoryStore(), scope: 'ada' }, async (_run, request) =>
      Response.json(await request.json()),
    )
    expect(await (await POST(payment(TEA, 'k'), undefined)).json()).toEqual(TEA)
  })

  it('gives an answer of 500 as it is, and runs the next try', async () => {
    let runs = 0
    const POST = idempotentRoute('flaky', { store: memoryStore(), scope: 'ada' }, async () => {
      runs += 1
      return new Response(`try ${runs}`, { status: runs === 1 ? 503 : 200 })
    })
    const first = await POST(payment(TEA, 'k'), undefined)
    expect([first.status, await first.text()]).toEqual([503, 'try 1'])
    const second = await POST(payment(TEA, 'k'), undefined)
    expect([second.status, await second.text()]).toEqual([200, 'try 2'])
  })

  it("replays Next's redirect as itself", async () => {
    let runs = 0
    const POST = idempotentRoute('go', { store: memoryStore(), scope: 'ada' }, async () => {
      runs += 1
      redirect('/thanks')
    })
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const thrown = await POST(payment(TEA, 'k'), undefined).catch((error: unknown) => error)
      expect(() => unstable_rethrow(thrown)).toThrow()
    }
    expect(runs).toBe(1)
  })

  it('lets an error of the handler through, and runs the next try', async () => {
    let runs = 0
    const POST = idempotentRoute('broken', { store: memoryStore(), scope: 'ada' }, async () => {
      runs += 1
      if (runs === 1) throw new Error('card declined')
      return new Response('paid')
    })
    await expect(POST(payment(TEA, 'k'), undefined)).rejects.toThrow('card declined')
    expect(await (await POST(payment(TEA, 'k'), undefined)).text()).toBe('paid')
  })

  it('flags a repeat on its own span, without the key', async () => {
    const { POST } = payments()
    const key = randomUUID()
    await POST(payment(TEA, key), undefined)
    await POST(payment(TEA, key), undefined)
    const [first, again] = spansNamed('route createPayment')
    expect(first?.attributes).toMatchObject({ 'idempotency.hit': false, 'idempotency.outcome': 'won' })
    expect(again?.attributes).toMatchObject({ 'idempotency.hit': true, 'idempotency.outcome': 'replay' })
    expect(again?.links[0]?.context.spanId).toBe(first?.spanContext().spanId)
    expect(JSON.stringify([first?.attributes, again?.attributes])).not.toContain(key)
  })
})

describe('a refusal of idempotentRoute', () => {
  it.each<[title: string, key: string | undefined, status: number, code: string]>([
    ['without a key', undefined, 400, 'IDEMPOTENCY_KEY_MISSING'],
    ['with two keys', '"a", "b"', 400, 'IDEMPOTENCY_KEY_MALFORMED'],
    ['with a key that is too long', 'k'.repeat(256), 400, 'IDEMPOTENCY_KEY_MALFORMED'],
  ])('%s is problem details', async (_, key, status, code) => {
    const { POST, runs } = payments()
    const response = await POST(payment(TEA, key), undefined)
    expect(response.status).toBe(status)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    expect(await response.json()).toMatchObject({ type: 'about:blank', status, code })
    expect(runs()).toBe(0)
  })

  it('is 422 for the same key with another payload', async () => {
    const { POST, runs } = payments()
    const key = randomUUID()
    await POST(payment(TEA, key), undefined)
    const response = await POST(payment({ ...TEA, quantity: 3 }, key), undefined)
    expect(response.status).toBe(422)
    expect(await response.json()).toMatchObject({ code: 'IDEMPOTENCY_MISMATCH' })
    expect(runs()).toBe(1)
  })

  it('is 409 with Retry-After while the first request is under way', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const POST = idempotentRoute(
      'slow',
      { store: memoryStore(), scope: 'ada', retryAfterSeconds: 7 },
      async () => {
        await held
        return new Response('paid')
      },
    )
    const first = POST(payment(TEA, 'k'), undefined)
    const second = await POST(payment(TEA, 'k'), undefined)
    expect([second.status, second.headers.get('retry-after')]).toEqual([409, '7'])
    release()
    expect(await (await first).text()).toBe('paid')
  })

  it('is 409 without Retry-After when the earlier outcome is not known', async () => {
    const POST = idempotentRoute('charge', { store: memoryStore(), scope: 'ada' }, async (run) => {
      await run.markEffects()
      throw new Error('connection lost')
    })
    await expect(POST(payment(TEA, 'k'), undefined)).rejects.toThrow('connection lost')
    const response = await POST(payment(TEA, 'k'), undefined)
    expect([response.status, response.headers.has('retry-after')]).toEqual([409, false])
    expect(await response.json()).toMatchObject({ code: 'IDEMPOTENCY_UNKNOWN' })
  })

  it('is 503 when the store does not answer, an error on the span, and a line', async () => {
    const broken = { ...memoryStore(), claim: () => Promise.reject(new Error('ECONNREFUSED')) }
    const { POST, runs } = payments({ store: broken as IdempotencyStore })
    const response = await POST(payment(TEA, 'k'), undefined)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    expect(runs()).toBe(0)
    const [span] = spansNamed('route createPayment')
    expect(span?.status.code).toBe(SpanStatusCode.ERROR)
    expect(lines).toContainEqual(expect.objectContaining({ level: 50, msg: 'action refused' }))
  })

  it('can be answered otherwise', async () => {
    const { POST } = payments({
      onRefused: ({ code }: { code: string }) => new Response(code, { status: 418 }),
    })
    const response = await POST(payment(TEA, undefined), undefined)
    expect([response.status, await response.text()]).toEqual([418, 'IDEMPOTENCY_KEY_MISSING'])
  })
})

function payments(options: Partial<Parameters<typeof idempotentRoute<Request, undefined>>[1]> = {}) {
  let runs = 0
  const POST = idempotentRoute<Request, undefined>(
    'createPayment',
    { store: memoryStore(), scope: 'ada', ...options },
    async (_run, request) => {
      runs += 1
      const item = request.headers.get('content-type')?.startsWith('application/json')
        ? (await request.json()).item
        : (await request.formData()).get('item')
      return Response.json(
        { number: runs, item },
        { status: 201, headers: { location: `/payments/${runs}`, 'set-cookie': 'seen=1', 'x-cost': '3' } },
      )
    },
  )
  return { POST, runs: () => runs }
}

function payment(body: unknown, key: string | undefined, headers: Record<string, string> = {}): Request {
  return new Request('http://shop.test/payments?currency=eur', {
    method: 'POST',
    body: JSON.stringify(body),
    headers: {
      'content-type': 'application/json',
      ...(key === undefined ? {} : { 'idempotency-key': key }),
      ...headers,
    },
  })
}
