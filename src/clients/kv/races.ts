/**
 * Sees the bug of the hand-written recipe while it happens: two requests that both asked for a key and did not
 * find it, before either wrote it, both go on to do the work. Seen within this process.
 */
import { processWide, type RequestContext } from '../../context/index.js'
import { logger } from '../../logging/index.js'
import { showRace } from '../../telemetry/idempotency.js'

/** Keys remembered per process; the one asked for longest ago goes first. */
const MAX_KEYS = 10_000

/** A request that has not written the key by then is not about to. In milliseconds. */
const PATIENCE_MS = 60_000

interface Miss {
  request: RequestContext
  atMs: number
}

/** Requests that missed a key which nobody has written since, by the key's hash. */
const misses = processWide('clients.kv.misses', () => new Map<string, Miss[]>())

/** Notes that the request asked for the key and did not find it. */
export function noteMiss(keyHash: string, request: RequestContext): void {
  const atMs = performance.now()
  const others = (misses.get(keyHash) ?? []).filter((miss) => isUnderWay(miss, atMs))
  misses.delete(keyHash)
  if (others.some((other) => other.request === request)) {
    misses.set(keyHash, others)
    return
  }
  misses.set(keyHash, [...others, { request, atMs }])
  if (misses.size > MAX_KEYS) misses.delete(misses.keys().next().value ?? '')
  const [other] = others
  if (other === undefined) return
  showRace(request, other.request, keyHash)
  showRace(other.request, request, keyHash)
  logger.warn(
    {
      idempotency: { race: true, key_hash: keyHash },
      action: request.action?.name,
      other_correlation_id: other.request.correlationId,
    },
    'two requests missed the same idempotency key before either wrote it: both do the work. Claim it in one step, with idempotentAction or SET NX',
  )
}

/** Notes that the key was written: who asks from now on finds it. */
export function noteWritten(keyHash: string): void {
  misses.delete(keyHash)
}

function isUnderWay({ request, atMs }: Miss, nowMs: number): boolean {
  return request.isResponseOpen !== false && nowMs - atMs < PATIENCE_MS
}
