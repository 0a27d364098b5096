/**
 * Suspected duplicates: a payload that came before under another key. A browser that mints a key per attempt,
 * or a caller that retries with a new one, is seen so. Flagged, never refused: it may be meant.
 *
 * Kept in this process: a store would take another round trip for each first use.
 */
import { processWide } from '../context/index.js'
import type { IdempotencySuspect } from '../telemetry/idempotency.js'
import type { Identity } from './identity.js'
import type { GuardedUse } from './run.js'

const MAX_PAYLOADS = 10_000

interface SeenPayload {
  identity: Identity
  origin: GuardedUse['origin']
  atMs: number
}

/** By scope, run and payload; the oldest first. */
const seen = processWide('idempotency.suspects', () => new Map<string, SeenPayload>())

/** Notes a first use, and answers the one with the same payload under another key, if it was within the window. */
export function suspectOf({
  identity,
  payloadName,
  origin,
  suspectWindowMs,
}: GuardedUse): IdempotencySuspect | undefined {
  if (suspectWindowMs === 0) return undefined
  const before = seen.get(payloadName)
  const atMs = performance.now()
  if (before !== undefined) seen.delete(payloadName)
  seen.set(payloadName, { identity, origin, atMs })
  if (seen.size > MAX_PAYLOADS) seen.delete(seen.keys().next().value ?? '')
  if (before === undefined || before.identity.key === identity.key || atMs - before.atMs > suspectWindowMs)
    return undefined
  return {
    // Made for the first who looks.
    get keyHash() {
      return before.identity.keyHash
    },
    origin: before.origin,
  }
}
