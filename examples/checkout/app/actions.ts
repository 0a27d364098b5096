'use server'

import { revalidatePath } from 'next/cache'
import { formField, idempotentAction } from 'throughline/next'
import { transaction } from 'throughline/transaction'
import { database, insertOrder } from '../lib/database.ts'
import { type OrderState, readOrder } from '../lib/order-form.ts'
import { outbox } from '../lib/outbox.ts'
import { redis } from '../lib/redis.ts'
import { idempotencyStore } from '../lib/store.ts'

/** An order, once per key, however often it is sent. */
export const createOrder = idempotentAction(
  'createOrder',
  {
    store: idempotencyStore(),
    // A real shop takes the signed-in user's ID from its session.
    scope: 'demo-customer',
    key: formField('idempotencyKey'),
    inFlight: { waitMs: 5000 },
    onRefused: ({ code, why }): OrderState => ({
      status: 'refused',
      message: `${code}: ${why}`,
      isUndecided: code === 'IDEMPOTENCY_BUSY' || code === 'STORE_UNAVAILABLE',
    }),
  },
  async (run, _state: OrderState, form: FormData): Promise<OrderState> => {
    const order = readOrder(form)
    if (typeof order === 'string') return { status: 'refused', message: order }
    // The order, its charge and its receipt commit with the key's record, or not at all.
    const orderId = await insertOrder(run.tx, { ...order, way: 'guarded', payment: 'charging' })
    await outbox.send(run.tx, 'payment.charge', { orderId, cents: order.cents })
    await outbox.send(run.tx, 'email.receipt', { orderId })
    run.log.info({ order_id: orderId }, 'order placed')
    revalidatePath('/')
    return { status: 'placed', orderId }
  },
)

/** The same as people write it by hand: get, create, set. Two at once both find nothing. Nobody is charged. */
export async function createOrderByHand(_state: OrderState, form: FormData): Promise<OrderState> {
  const client = redis()
  if (client === undefined) {
    return { status: 'refused', message: 'This one needs a Redis: set REDIS_URL and start again.' }
  }
  const order = readOrder(form)
  if (typeof order === 'string') return { status: 'refused', message: order }
  if (!form.has('idempotencyKey')) return { status: 'refused', message: 'This one needs JavaScript.' }
  const key = `idempotency:${form.get('idempotencyKey')}`
  const seen = await client.get(key)
  if (seen !== null) return { status: 'placed', orderId: Number(seen) }
  const orderId = await transaction(database(), (tx) =>
    insertOrder(tx, { ...order, way: 'by hand', payment: null }),
  )
  await client.set(key, orderId, 'EX', 3600)
  revalidatePath('/')
  return { status: 'placed', orderId }
}
