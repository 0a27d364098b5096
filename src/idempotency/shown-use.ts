/** Hands what happened to a key to the span, the request's line, the counters and the caller's `onUse`. */
import { diag, trace } from '@opentelemetry/api'
import {
  countIdempotencyUse,
  type IdempotencyUse,
  isUseSeen,
  showIdempotencyUse,
} from '../telemetry/idempotency.js'
import type { AnyStore, Claim, RepeatClaim } from './contract.js'
import type { GuardedUse, RunOnceOptions } from './run.js'
import { suspectOf } from './suspects.js'

/** Shows what a claim found. */
export function showClaim(
  claim: Claim | RepeatClaim,
  use: GuardedUse,
  store: AnyStore,
  options: RunOnceOptions,
): void {
  const { outcome } = claim
  const { guarantee } = store
  if (!('hits' in claim)) {
    // The run that holds the key has not committed, so only that there is one is known.
    show(use, store, options, () => ({ outcome, guarantee, isHit: true }))
    return
  }
  const { hits, fence, usedAt, firstUsedAt, origin } = claim
  const suspect = outcome === 'won' && hits === 0 ? suspectOf(use) : undefined
  show(use, store, options, () => ({
    outcome,
    guarantee,
    isHit: hits > 0,
    hits,
    // Clocks of several store nodes may differ a little: an age is never negative.
    ageMs: Math.max(0, usedAt - firstUsedAt),
    fence,
    ...(origin === undefined ? {} : { origin }),
    ...(suspect === undefined ? {} : { suspect }),
  }))
}

/** Shows a use that went on without its store: nothing is known of the key, and a repeat would run again. */
export function showUnguarded(use: GuardedUse, store: AnyStore, options: RunOnceOptions): void {
  show(use, store, options, () => ({ outcome: 'unknown', isHit: false, guarantee: 'at-least-once' }))
}

/** @param tell what happened to the key: asked only when somebody looks */
function show(
  { identity, name }: GuardedUse,
  store: AnyStore,
  { onUse }: RunOnceOptions,
  tell: () => Omit<IdempotencyUse, 'keyHash' | 'action' | 'store'>,
): void {
  const span = trace.getActiveSpan()
  if (onUse === undefined && !isUseSeen(span)) {
    const { outcome, suspect } = tell()
    countIdempotencyUse({ outcome, action: name, store: store.name, suspect })
    return
  }
  const use: IdempotencyUse = { keyHash: identity.keyHash, action: name, store: store.name, ...tell() }
  showIdempotencyUse(span, use)
  try {
    onUse?.(use)
  } catch (cause) {
    // A run that is claimed must go on to its end.
    diag.warn('throughline: onUse threw.', cause)
  }
}
