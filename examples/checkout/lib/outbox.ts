/** What has to be done in the outside world because of an order: it commits with the order, or never was. */
import { createOutbox, defineTopics } from 'throughline/outbox'
import { z } from 'zod'
import { database } from './database.ts'

const topics = defineTopics({
  'payment.charge': z.object({ orderId: z.int(), cents: z.int().positive() }),
  'email.receipt': z.object({ orderId: z.int() }),
})

/** Started by instrumentation.ts, and by the worker. */
export const outbox = createOutbox({ db: database(), topics })
