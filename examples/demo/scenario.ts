/** The demo's scenario: what is sent, what must be true of the answers, and what is worth showing. */
import { type Answer, placeOrder, type Way } from './order-page.ts'

/** One expectation, and whether it held. */
export interface Check {
  title: string
  isMet: boolean
  detail: string
}

/** What the scenario found. */
export interface Findings {
  checks: Check[]
  /** Correlation ID of the second use of a key, under `idempotentAction`. */
  repeatId: string
  /** The same under the hand-written recipe; undefined without a Redis. */
  byHandRepeatId: string | undefined
}

/** Plays the scenario over HTTP. `hasRedis` says whether the action written by hand can take part. */
export async function playScenario(
  url: string,
  hasRedis: boolean,
  report: (check: Check) => void,
): Promise<Findings> {
  const checks: Check[] = []
  const check = (title: string, isMet: boolean, detail: string) => {
    const result = { title, isMet, detail }
    checks.push(result)
    report(result)
  }
  const send = (way: Way, idempotencyKey: string, quantity = 2) =>
    placeOrder(url, way, { idempotencyKey, item: 'Oolong tea', quantity })

  const key = crypto.randomUUID()
  const first = await send('guarded', key)
  check('an order is placed', first.orderId !== undefined, first.message)
  const repeat = await send('guarded', key)
  check('the same key again: the same order, nothing new', isSame(first, repeat), repeat.message)

  const sharedKey = crypto.randomUUID()
  const five = await atOnce(5, () => send('guarded', sharedKey))
  check('five at once with one key: one order', distinctOrders(five) === 1, ordersOf(five))

  const mismatch = await send('guarded', key, 3)
  check(
    'the same key with another payload: refused',
    mismatch.message.startsWith('IDEMPOTENCY_MISMATCH'),
    mismatch.message,
  )
  if (!hasRedis) return { checks, repeatId: repeat.correlationId, byHandRepeatId: undefined }

  const byHandKey = crypto.randomUUID()
  const byHandFirst = await send('by-hand', byHandKey)
  const byHandRepeat = await send('by-hand', byHandKey)
  check(
    'by hand, the same key again: the same order',
    isSame(byHandFirst, byHandRepeat),
    byHandRepeat.message,
  )
  const byHandSharedKey = crypto.randomUUID()
  const byHandFive = await atOnce(5, () => send('by-hand', byHandSharedKey))
  // Not an expectation: how many slip through the gap between get and set is chance.
  const byHandOrders = distinctOrders(byHandFive)
  report({
    title: `by hand, five at once with one key: ${byHandOrders} ${byHandOrders === 1 ? 'order' : 'orders'}`,
    isMet: true,
    detail: `${ordersOf(byHandFive)} (${byHandOrders === 1 ? 'by luck: nothing keeps two from finding no key' : 'several find no key before one has set it'})`,
  })
  return { checks, repeatId: repeat.correlationId, byHandRepeatId: byHandRepeat.correlationId }
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
