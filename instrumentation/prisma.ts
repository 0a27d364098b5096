/** Prisma's own spans, where `@prisma/instrumentation` is installed: it is an optional peer. */

/** Starts it. True when it is there. */
export async function startPrismaInstrumentation(): Promise<boolean> {
  try {
    const { PrismaInstrumentation } = await import('@prisma/instrumentation')
    // It announces itself to the clients of the process as it is made.
    new PrismaInstrumentation()
    return true
  } catch {
    return false
  }
}
