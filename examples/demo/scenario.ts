/** The demo's scenario: what is sent, what must be true of the answers, and what is worth showing. */
import { type Answer, type ListedOrder, listOrders, openForm, submit } from './order-page.ts'
import { waitFor } from './processes.ts'

/** Where it is played. */
export interface Shop {
  url: string
  /** The payment sandbox. */
  paymentUrl: string
  /** Says whether the action written by hand can take part. */
  hasRedis: boolean
}

/** One expectation, and whether it held. */
export interface Check {
  title: string
  isMet: boolean
  detail: string
}

/** What the scenario found. */
export interface Findings {
  checks: Check[]
  /** Correlation ID of the first order. */
  orderId: string
  /** Correlation ID of the second use of a key, under `idempotentAction`. */
  repeatId: string
  /** The same under the hand-written recipe; undefined without a Redis. */
  byHandRepeatId: string | undefined
}

const ORDER = { item: 'Oolong tea', quantity: 2 }

/** Plays the scenario over HTTP. */
export async function playScenario(shop: Shop, report: (check: Check) => void): Promise<Findings> {
  const checks: Check[] = []
  const check = (title: string, isMet: boolean, detail: string) => {
    const result = { title, isMet, detail }
    checks.push(result)
    report(result)
  }
  const form = await openForm(shop.url, 'guarded')
  const send = (idempotencyKey: string, quantity = 2) => submit(form, { ...ORDER, idempotencyKey, quantity })

  const key = crypto.randomUUID()
  const first = await send(key)
  check('an order is placed', first.orderId !== undefined, first.message)
  const repeat = await send(key)
  check('the same key again: the same order, nothing new', isSame(first, repeat), repeat.message)

  const sharedKey = crypto.randomUUID()
  const five = await atOnce(5, () => send(sharedKey))
  check('five at once with one key: one order', distinctOrders(five) === 1, ordersOf(five))

  const mismatch = await send(key, 3)
  check(
    'the same key with another payload: refused',
    mismatch.message.startsWith('IDEMPOTENCY_MISMATCH'),
    mismatch.message,
  )

  const byHandRepeatId = shop.hasRedis ? await playByHand(shop, check, report) : undefined
  await checkCharges(shop, [first, ...five], check)
  return { checks, orderId: first.correlationId, repeatId: repeat.correlationId, byHandRepeatId }
}

type Expect = (title: string, isMet: boolean, detail: string) => void

/** @returns the correlation ID of the second use of the key. */
async function playByHand({ url }: Shop, check: Expect, report: (check: Check) => void): Promise<string> {
  const form = await openForm(url, 'by-hand')
  const send = (idempotencyKey: string) => submit(form, { ...ORDER, idempotencyKey })
  const key = crypto.randomUUID()
  const first = await send(key)
  const repeat = await send(key)
  check('by hand, the same key again: the same order', isSame(first, repeat), repeat.message)
  const sharedKey = crypto.randomUUID()
  const five = await atOnce(5, () => send(sharedKey))
  // Not an expectation: how many slip through the gap between get and set is chance.
  const orders = distinctOrders(five)
  report({
    title: `by hand, five at once with one key: ${orders} ${orders === 1 ? 'order' : 'orders'}`,
    isMet: true,
    detail: `${ordersOf(five)} (${orders === 1 ? 'by luck: nothing keeps two from finding no key' : 'several find no key before one has set it'})`,
  })
  return repeat.correlationId
}

/** Waits until the orders are paid, and looks at what the sandbox charged for them. */
async function checkCharges({ url, paymentUrl }: Shop, answers: Answer[], check: Expect): Promise<void> {
  const placed = [...new Set(answers.map(({ orderId }) => orderId))]
  let listed: ListedOrder[] = []
  const isPaid = (id: number | undefined) =>
    listed.some((order) => order.id === id && order.payment === 'paid')
  await waitFor(
    'The payment of each order',
    async () => {
      listed = await listOrders(url)
      if (!placed.every(isPaid)) throw new Error('not yet')
    },
    () => JSON.stringify(listed),
  )
  const numbers = placed.join(', ')
  check('each order is paid, though the answer to the first charge was lost', true, numbers)
  const charges = (await (await fetch(`${paymentUrl}/charges`)).json()) as { orderId: number }[]
  const charged = charges.map(({ orderId }) => orderId)
  const times = placed.map((id) => charged.filter((orderId) => orderId === id).length)
  check(
    'the sandbox has one charge for each of them',
    times.every((count) => count === 1),
    times.map((count, place) => `order ${placed[place]}: ${count}`).join(', '),
  )
  const guarded = listed.filter(({ way }) => way === 'guarded').map(({ id }) => id)
  const strays = charged.filter((orderId) => !guarded.includes(orderId))
  check('and none without an order', strays.length === 0, strays.join(', ') || `${charged.length} in all`)
}

function atOnce<T>(times: number, send: () => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: times }, send))
}

function isSame(first: Answer, second: Answer): boolean {
  return first.orderId !== undefined && first.orderId === second.orderId
}

function distinctOrders(answers: Answer[]): number {
  return new Set(answers.map((answer) => answer.orderId ?? answer.message)).size
}

function ordersOf(answers: Answer[]): string {
  return answers.map((answer) => answer.orderId ?? answer.message).join(', ')
}
