/**
 * What this process saw of the idempotency keys in its KV traffic: where a key was written first, and how
 * often it was met again. Bounded; the key used longest ago is forgotten first. Keys are kept hashed.
 */
import { processWide } from '../../context/index.js'
import type { IdempotencyOrigin } from '../../telemetry/idempotency.js'

/** A key as this process knows it. */
export interface SeenKey {
  /** Epoch milliseconds of the first use seen here; undefined when it was written elsewhere. */
  firstUsedAt: number | undefined
  origin: IdempotencyOrigin | undefined
  /** Times the key was met again. */
  hits: number
}

/** Keys remembered per process. */
const MAX_SEEN_KEYS = 10_000

const seen = processWide('clients.kv.seen-keys', () => new Map<string, SeenKey>())

/** Notes that this process wrote the key for the first time. */
export function noteFirstUse(keyHash: string, origin: IdempotencyOrigin | undefined, at: number): void {
  remember(keyHash, { firstUsedAt: at, origin, hits: 0 })
}

/** Notes that the key was met again, and returns what is known of it. */
export function noteHit(keyHash: string): SeenKey {
  const known = seen.get(keyHash) ?? { firstUsedAt: undefined, origin: undefined, hits: 0 }
  known.hits += 1
  remember(keyHash, known)
  return known
}

function remember(keyHash: string, key: SeenKey): void {
  seen.delete(keyHash)
  seen.set(keyHash, key)
  if (seen.size <= MAX_SEEN_KEYS) return
  const [oldest] = seen.keys()
  if (oldest !== undefined) seen.delete(oldest)
}
