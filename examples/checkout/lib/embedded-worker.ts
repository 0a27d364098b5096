/** The outbox of an embedded database, worked off in the Next server: no other process can reach that database. */
import { logger } from 'throughline/logging'
import { sandboxOptionsFrom, startSandbox } from '../payment-sandbox/sandbox.ts'
import { startWorker } from './handlers.ts'

/** Charges at `PAYMENT_URL`, else at a payment sandbox that it starts. */
export async function startEmbeddedWorker(): Promise<void> {
  await startWorker(process.env.PAYMENT_URL || (await startOwnSandbox()))
}

async function startOwnSandbox(): Promise<string> {
  const { url } = await startSandbox(sandboxOptionsFrom(process.env))
  logger.info({ url: `${url}/charges` }, 'payment sandbox started: PAYMENT_URL is not set')
  return url
}
