import { throughline } from 'throughline/instrumentation'

const { register: registerThroughline, onRequestError } = throughline({ serviceName: 'checkout' })

export { onRequestError }

export async function register() {
  await registerThroughline()
  if (process.env.NEXT_RUNTIME === 'nodejs') {
    // A real app makes its tables when it is deployed.
    const { prepareDatabase } = await import('./lib/database.ts')
    await prepareDatabase()
    const { outbox } = await import('./lib/outbox.ts')
    await outbox.start()
    if (!process.env.DATABASE_URL) {
      const { startEmbeddedWorker } = await import('./lib/embedded-worker.ts')
      await startEmbeddedWorker()
    }
  }
}
