/** The payment sandbox of the checkout example: what it keeps of its promises when it fails. */
import { afterEach, describe, expect, it } from 'vitest'
import {
  type Sandbox,
  sandboxOptionsFrom,
  startSandbox,
} from '../../examples/checkout/payment-sandbox/sandbox.ts'

describe('the payment sandbox', () => {
  let sandbox: Sandbox
  afterEach(() => sandbox.stop())

  const start = async (options = {}) => {
    sandbox = await startSandbox({ latencyMs: 0, failureRate: 0, ...options })
  }
  const charge = async (idempotencyKey: string | undefined, order: object) => {
    const response = await fetch(`${sandbox.url}/charges`, {
      method: 'POST',
      headers: idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey },
      body: JSON.stringify(order),
    })
    return { status: response.status, answer: await response.json() }
  }
  const order = { orderId: 1, cents: 750 }

  it('charges once per key, and answers a repeat with the same charge', async () => {
    await start()
    const first = await charge('key-1', order)
    expect(first).toMatchObject({ status: 201, answer: order })
    expect(await charge('key-1', order)).toEqual({ status: 200, answer: first.answer })
    await charge('key-2', order)
    expect(await (await fetch(`${sandbox.url}/charges`)).json()).toEqual(sandbox.charges())
    expect(sandbox.charges()).toHaveLength(2)
  })

  it('refuses a charge without a key, one without an amount, and a key that came with another body', async () => {
    await start()
    expect((await charge(undefined, order)).status).toBe(400)
    expect((await charge('key-1', { orderId: 1 })).status).toBe(400)
    await charge('key-1', order)
    expect((await charge('key-1', { orderId: 1, cents: 751 })).status).toBe(422)
    expect(sandbox.charges()).toMatchObject([order])
  })

  it('fails before the charge, or after it so that the answer is lost, as it is told to', async () => {
    await start({ failures: ['before', 'after'] })
    expect((await charge('key-1', order)).status).toBe(503)
    expect(sandbox.charges()).toEqual([])
    expect((await charge('key-1', order)).status).toBe(503)
    expect(sandbox.charges()).toMatchObject([order])
    expect((await charge('key-1', order)).status).toBe(200)
    expect(sandbox.charges()).toHaveLength(1)
  })

  it('fails by chance, and still charges once per key', async () => {
    await start({ failureRate: 0.5 })
    for (let place = 0; place < 20; place += 1) {
      const statuses = []
      do statuses.push((await charge(`key-${place}`, order)).status)
      while (statuses.at(-1) === 503)
    }
    expect(sandbox.charges()).toHaveLength(20)
  })

  it('reads how it behaves from the environment, and names what it cannot read', async () => {
    await start()
    expect(sandboxOptionsFrom({ LATENCY_MS: '5', FAILURE_RATE: '0.5', FAILURES: 'after,before' })).toEqual({
      latencyMs: 5,
      failureRate: 0.5,
      failures: ['after', 'before'],
    })
    expect(() => sandboxOptionsFrom({ FAILURE_RATE: '2' })).toThrow(
      'FAILURE_RATE must be a number from 0 to 1',
    )
    expect(() => sandboxOptionsFrom({ FAILURES: 'always' })).toThrow('received "always"')
  })
})
