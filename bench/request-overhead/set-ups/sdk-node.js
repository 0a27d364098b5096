export async function register() {
  if (process.env.NEXT_RUNTIME !== 'nodejs') return
  const { NodeSDK } = await import('@opentelemetry/sdk-node')
  const { PgInstrumentation } = await import('@opentelemetry/instrumentation-pg')
  const { IORedisInstrumentation } = await import('@opentelemetry/instrumentation-ioredis')
  new NodeSDK({
    serviceName: 'next-app',
    instrumentations: [new PgInstrumentation(), new IORedisInstrumentation()],
  }).start()
}
