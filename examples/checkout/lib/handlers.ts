/** What is done with the outbox's messages, wherever they are worked off: in the worker, or in the Next server. */
import type { OutboxWorker } from 'throughline/outbox'
import { markPaid } from './database.ts'
import { outbox } from './outbox.ts'
import { charge } from './payments.ts'

/** Works the outbox off until it is stopped. */
export function startWorker(paymentUrl: string): Promise<OutboxWorker> {
  return outbox.work({
    'payment.charge': async (order, { complete, signal, messageId }) => {
      // An attempt whose answer was lost has charged: the same key makes the next one find that charge.
      await charge(paymentUrl, order, { idempotencyKey: messageId, signal })
      await complete((tx) => markPaid(tx, order.orderId))
    },
    // There is no mail server here.
    'email.receipt': async ({ orderId }, { log }) => log.info({ order_id: orderId }, 'receipt sent'),
  })
}
