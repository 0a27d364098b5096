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

interface Miss {
  request: RequestContext
  atMs: number
}

/** Requests that missed a key which nobody has written since, by the key's hash. */
const misses = processWide('clients.kv.misses', () => new Map<string, Miss[]>())

/** Notes that the request asked for the key and did not find it. */
export function noteMiss(keyHash: string, request: RequestContext): void {
  // In after(), or unawaited: no end is known of such work, so it would be in a race with all that comes later.
  if (request.isOver) return
  const atMs = performance.now()
  const others = (misses.get(keyHash) ?? []).filter((miss) => isUnderWay(miss, atMs))
  misses.delete(keyHash)
  if (others.some((other) => other.request === request)) {
    misses.set(keyHash, others)
    return
  }
  misses.set(keyHash, [...others, { request, atMs }])
  if (misses.size > MAX_KEYS) misses.delete(misses.keys().next().value ?? '')
  let isWarned = false
  shareMiss(keyHash, request, (stranger) => {
    showRace(request, stranger, keyHash)
    if (!isWarned) warn(keyHash, request, stranger)
    isWarned = true
  })
  const [other] = others
  if (other === undefined) return
  showRace(request, asOther(other.request), keyHash)
  showRace(other.request, asOther(request), keyHash)
  warn(keyHash, request, asOther(other.request))
  isWarned = true
}

/** Notes that the key was written: who asks from now on finds it. */
export function noteWritten(keyHash: string, request: RequestContext | undefined): void {
  misses.delete(keyHash)
  if (request !== undefined) shareWrite(keyHash, request)
}

function asOther({ correlationId, firstSpan }: RequestContext): OtherRequest {
  return { correlationId, spanContext: firstSpan?.spanContext() }
}

function warn(keyHash: string, { action }: RequestContext, { correlationId }: OtherRequest): void {
  logger.warn(
    {
      idempotency: { race: true, key_hash: keyHash },
      action: action?.name,
      other_correlation_id: correlationId,
    },
    'two requests missed the same idempotency key before either wrote it: both do the work. Claim it in one step, with idempotentAction or SET NX',
  )
}

function isUnderWay({ request, atMs }: Miss, nowMs: number): boolean {
  return !request.isOver && nowMs - atMs < PATIENCE_MS
}
