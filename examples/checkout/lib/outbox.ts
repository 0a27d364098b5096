/** What has to be done in the outside world because of an order: it commits with the order, or never was. */
import { createOutbox, defineTopics } from 'throughline/outbox'
import { z } from 'zod'
import { database } from './database.ts'

const topics = defineTopics({
  'payment.charge': z.object({ orderId: z.int(), cents: z.int().positive() }),
  'email.receipt': z.object({ orderId: z.int() }),
})

const create = () => createOutbox({ db: database(), topics })

// One per process, as the database.
const holder = globalThis as { checkoutOutbox?: ReturnType<typeof create> }

/** The outbox; it is started by instrumentation.ts, and by the worker. */
export function outbox(): ReturnType<typeof create> {
  holder.checkoutOutbox ??= create()
  return holder.checkoutOutbox
}
