/** A request context where no server hook opened one: platforms that call handlers directly, and edge. */
import {
  createContext,
  DEFAULT_CORRELATION_HEADER,
  type HeaderReader,
  resolveCorrelation,
  runAndClose,
  tryGetContext,
} from '../context/index.js'

/**
 * Runs `fn` in the active context, or in a new one made from the request's headers.
 *
 * @param readHeaders called only when no context is active
 * @param correlationHeader header that may bring the ID, lower case
 */
export async function ensureContext<T>(
  readHeaders: () => Promise<HeaderReader>,
  fn: () => Promise<T>,
  correlationHeader: string = DEFAULT_CORRELATION_HEADER,
): Promise<T> {
  if (tryGetContext() !== undefined) return fn()
  const correlation = resolveCorrelation(await readHeaders(), [correlationHeader])
  return runAndClose(createContext(correlation), fn)
}

/** Reads the request's headers through Next, in an action or a route handler; elsewhere there are none. */
export async function nextHeaders(): Promise<HeaderReader> {
  const { headers } = await import('next/headers.js')
  try {
    const list = await headers()
    return (name) => list.get(name)
  } catch (error) {
    // A script or a test that calls an action. Everything else is Next's own business: a prerender, say.
    if (error instanceof Error && error.message.includes('outside a request scope')) return () => undefined
    throw error
  }
}
