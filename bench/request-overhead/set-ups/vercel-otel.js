export async function register() {
  if (process.env.NEXT_RUNTIME !== 'nodejs') return
  const { registerOTel } = await import('@vercel/otel')
  const { PgInstrumentation } = await import('@opentelemetry/instrumentation-pg')
  const { IORedisInstrumentation } = await import('@opentelemetry/instrumentation-ioredis')
  registerOTel({
    serviceName: 'next-app',
    instrumentations: ['auto', new PgInstrumentation(), new IORedisInstrumentation()],
  })
}
