/** A request context where no server hook opened one: platforms that call handlers directly, and edge. */
import {
  createContext,
  type HeaderReader,
  resolveCorrelation,
  runInContext,
  tryGetContext,
} from '../context/index.js'

/**
 * Runs `fn` in the active context, or in a new one made from the request's headers.
 *
 * @param readHeaders called only when no context is active
 */
export async function ensureContext<T>(
  readHeaders: () => Promise<HeaderReader>,
  fn: () => Promise<T>,
): Promise<T> {
  if (tryGetContext() !== undefined) return fn()
  return runInContext(createContext(resolveCorrelation(await readHeaders())), fn)
}

/** Reads the request's headers through Next, in an action or a route handler. */
export async function nextHeaders(): Promise<HeaderReader> {
  const { headers } = await import('next/headers.js')
  const list = await headers()
  return (name) => list.get(name)
}
