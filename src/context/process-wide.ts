/**
 * State that exists once per process.
 *
 * Next bundles a library once per layer (instrumentation, proxy, RSC, actions, SSR, route handlers) and
 * reloads bundles in development, so module state would exist several times (next.js #65350). Everything
 * that must be one lives in one registry on `globalThis`, under a versioned symbol.
 */
const SLOT = Symbol.for('throughline.v1')

type Registry = Map<string, unknown>

/**
 * The process's one value of that name, created by the first caller.
 *
 * @example const storage = processWide('context.storage', () => new AsyncLocalStorage<RequestContext>())
 */
export function processWide<T>(name: string, create: () => T): T {
  const holder = globalThis as { [SLOT]?: Registry }
  holder[SLOT] ??= new Map()
  const registry = holder[SLOT]
  if (!registry.has(name)) registry.set(name, create())
  return registry.get(name) as T
}
