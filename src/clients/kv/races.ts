/**
 * Sees the bug of the hand-written recipe while it happens: two requests that both asked for a key and did not
 * find it, before either wrote it, both go on to do the work. Seen within this process, and with a `raceStore`
 * across processes.
 */
import { processWide, type RequestContext } from '../../context/index.js'
import { logger } from '../../logging/index.js'
import { type OtherRequest, showRace } from '../../telemetry/idempotency.js'
import { shareMiss, shareWrite } from './races-store.js'

/** Keys remembered per process; the one asked for longest ago goes first. */
const MAX_KEYS = 10_000

/** A request that has not written the key by then is not about to. In milliseconds. */
const PATIENCE_MS = 60_000

/** Missers remembered per key; the one that missed it longest ago goes first. */
const MAX_MISSES = 32

/** From one warning of a key to its next, in milliseconds: a key that all ask for would fill the log. */
const WARNING_INTERVAL_MS = 10_000

interface Miss {
  request: RequestContext
  atMs: number
}

interface MissedKey {
  /** Requests that missed it, since it was written last. */
  misses: Miss[]
  /** Seen so far. */
  races: number
  warnedAtMs: number
}

/** By the key's hash. */
const missedKeys = processWide('clients.kv.missed-keys', () => new Map<string, MissedKey>())

/** Notes that the request asked for the key and did not find it. */
export function noteMiss(keyHash: string, request: RequestContext): void {
  // In after(), or unawaited: no end is known of such work, so it would be in a race with all that comes later.
  if (request.isOver) return
  const atMs = performance.now()
  const key = missedKeyOf(keyHash)
  key.misses = key.misses.filter((miss) => isUnderWay(miss, atMs))
  if (key.misses.some((other) => other.request === request)) return
  const [other] = key.misses
  key.misses.push({ request, atMs })
  if (key.misses.length > MAX_MISSES) key.misses.shift()
  shareMiss(keyHash, request, (stranger) => {
    showRace(request, stranger, keyHash)
    warn(key, keyHash, request, stranger)
  })
  if (other === undefined) return
  showRace(request, asOther(other.request), keyHash)
  showRace(other.request, asOther(request), keyHash)
  warn(key, keyHash, request, asOther(other.request))
}

/** Notes that the key was written: who asks from now on finds it. */
export function noteWritten(keyHash: string, request: RequestContext | undefined): void {
  const key = missedKeys.get(keyHash)
  // One that was warned of is kept, so that it is not warned of again at once.
  if (key?.races === 0) missedKeys.delete(keyHash)
  else if (key !== undefined) key.misses = []
  if (request !== undefined) shareWrite(keyHash, request)
}

function missedKeyOf(keyHash: string): MissedKey {
  const key = missedKeys.get(keyHash) ?? { misses: [], races: 0, warnedAtMs: Number.NEGATIVE_INFINITY }
  missedKeys.delete(keyHash)
  missedKeys.set(keyHash, key)
  if (missedKeys.size > MAX_KEYS) missedKeys.delete(missedKeys.keys().next().value ?? '')
  return key
}

function asOther({ correlationId, firstSpan }: RequestContext): OtherRequest {
  return { correlationId, spanContext: firstSpan?.spanContext() }
}

function warn(
  key: MissedKey,
  keyHash: string,
  { action }: RequestContext,
  { correlationId }: OtherRequest,
): void {
  key.races += 1
  const nowMs = performance.now()
  if (nowMs - key.warnedAtMs < WARNING_INTERVAL_MS) return
  key.warnedAtMs = nowMs
  logger.warn(
    {
      idempotency: { race: true, key_hash: keyHash },
      races: key.races,
      action: action?.name,
      other_correlation_id: correlationId,
    },
    'two requests missed the same idempotency key before either wrote it: both do the work. Claim it in one step, with idempotentAction or SET NX',
  )
}

function isUnderWay({ request, atMs }: Miss, nowMs: number): boolean {
  return !request.isOver && nowMs - atMs < PATIENCE_MS
}
