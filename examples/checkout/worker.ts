/**
 * The worker as a process of its own: `npm run worker`, which is `throughline worker ./worker.ts`. For orders in
 * Postgres; an embedded database lives in the Next server, which works its outbox off itself.
 */
import { startWorker } from './lib/handlers.ts'

export default function start() {
  const { DATABASE_URL, PAYMENT_URL } = process.env
  if (!DATABASE_URL) throw new Error('DATABASE_URL is not set: without it, the Next server needs no worker.')
  if (!PAYMENT_URL)
    throw new Error(
      'PAYMENT_URL is not set. Start the payment sandbox, npm run sandbox, and use its address.',
    )
  return startWorker(PAYMENT_URL)
}
