import { throughline } from 'throughline/instrumentation'

const { register: registerThroughline, onRequestError } = throughline({ serviceName: 'checkout' })

export { onRequestError }

export async function register() {
  await registerThroughline()
  // A real app makes its tables when it is deployed.
  if (process.env.NEXT_RUNTIME === 'nodejs') {
    const { prepareDatabase } = await import('./lib/database')
    await prepareDatabase()
  }
}
