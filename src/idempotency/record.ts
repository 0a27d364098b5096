/**
 * The states of a record and what moves it between them: the diagram of `contract.ts` as pure code. The
 * memory store runs it; the Lua of the Redis store mirrors it, and a property test holds both together.
 */
import type { IdempotencyOutcome } from '../telemetry/idempotency.js'
import {
  type Claim,
  type ClaimRequest,
  type ClaimToken,
  type IdempotencyRecord,
  type KeyHistory,
  TIMELINE_LENGTH,
} from './contract.js'
import type { OnUnknown } from './on-unknown.js'

/** A verb of the run that owns a record. */
export type OwnerVerb =
  | { verb: 'renew' | 'markEffects' | 'abort' | 'markUnknown' }
  | { verb: 'complete'; result: string }

/** True from the end of retention on: the record counts as absent. */
export function isExpired(record: IdempotencyRecord, nowMs: number): boolean {
  return record.expiresAt <= nowMs
}

/** Uses the key. `token` is the one the run gets, should this use run. */
export function claim(
  found: IdempotencyRecord | undefined,
  request: ClaimRequest,
  token: ClaimToken,
  nowMs: number,
  onUnknown: OnUnknown = 'retain',
): { record: IdempotencyRecord; claim: Claim } {
  const before = found === undefined || isExpired(found, nowMs) ? undefined : found
  if (before?.state === 'claimed' && before.token === token) {
    return { record: before, claim: { ...historyOf(before, nowMs), outcome: 'won', token } }
  }
  const outcome = outcomeOf(before, request.fingerprint, nowMs, onUnknown)
  const isRun = outcome === 'won' || outcome === 'takeover'
  const used = withUse(
    before ?? firstUse(request, token, nowMs),
    before !== undefined,
    request,
    outcome,
    nowMs,
  )
  const record = isRun ? withRun(used, before, request, token, nowMs) : used
  const history = historyOf(record, nowMs)
  if (isRun) return { record, claim: { ...history, outcome, token } }
  if (outcome === 'replay') return { record, claim: { ...history, outcome, result: record.result ?? '' } }
  return { record, claim: { ...history, outcome } }
}

/** Applies a verb of the run that holds `token`. Undefined: refused, nothing changes. */
export function settle(
  found: IdempotencyRecord | undefined,
  token: ClaimToken,
  verb: OwnerVerb,
  nowMs: number,
): IdempotencyRecord | undefined {
  if (found === undefined || isExpired(found, nowMs) || found.token !== token) return undefined
  const isClaimed = found.state === 'claimed'
  const leaseEndsAt = nowMs + found.leaseMs
  // The lease ends with its run.
  const kept = { ...found, leaseEndsAt: nowMs, expiresAt: nowMs + found.retentionMs }
  switch (verb.verb) {
    case 'renew':
    case 'markEffects': {
      if (!isClaimed) return undefined
      const hasEffects = found.hasEffects || verb.verb === 'markEffects'
      return { ...found, hasEffects, leaseEndsAt, expiresAt: leaseEndsAt + found.retentionMs }
    }
    case 'complete':
      if (isClaimed) return { ...kept, state: 'completed', result: verb.result }
      return found.state === 'completed' ? found : undefined
    case 'abort':
      if (isClaimed) return { ...kept, state: 'aborted' }
      return found.state === 'aborted' ? found : undefined
    case 'markUnknown':
      if (isClaimed) return { ...kept, state: 'unknown' }
      return found.state === 'unknown' ? found : undefined
  }
}

function outcomeOf(
  record: IdempotencyRecord | undefined,
  fingerprint: string,
  nowMs: number,
  onUnknown: OnUnknown,
): IdempotencyOutcome {
  if (record === undefined || record.state === 'aborted') return 'won'
  if (record.fingerprint !== fingerprint) return 'mismatch'
  if (record.state === 'completed') return 'replay'
  const undecided = onUnknown === 'rerun' ? 'takeover' : 'unknown'
  if (record.state === 'unknown') return undecided
  if (nowMs < record.leaseEndsAt) return 'busy'
  return record.hasEffects ? undecided : 'takeover'
}

function firstUse(request: ClaimRequest, token: ClaimToken, nowMs: number): IdempotencyRecord {
  const { fingerprint, leaseMs, retentionMs, origin } = request
  return {
    state: 'claimed',
    fingerprint,
    token,
    fence: 0,
    hasEffects: false,
    origin,
    firstUsedAt: nowMs,
    hits: 0,
    uses: [],
    leaseMs,
    retentionMs,
    leaseEndsAt: nowMs,
    expiresAt: nowMs,
  }
}

// A waiting use that asks again adds no hit, and no line until it has something else to tell than `busy`.
function withUse(
  record: IdempotencyRecord,
  isHit: boolean,
  { isRepeat = false, origin }: ClaimRequest,
  outcome: IdempotencyOutcome,
  nowMs: number,
): IdempotencyRecord {
  const hits = record.hits + (isHit && !isRepeat ? 1 : 0)
  if (isRepeat && outcome === 'busy') return record
  const use = { at: nowMs, outcome, traceId: origin?.traceId ?? '' }
  return { ...record, hits, uses: [...record.uses, use].slice(-TIMELINE_LENGTH) }
}

function withRun(
  record: IdempotencyRecord,
  before: IdempotencyRecord | undefined,
  { fingerprint, leaseMs, retentionMs }: ClaimRequest,
  token: ClaimToken,
  nowMs: number,
): IdempotencyRecord {
  const leaseEndsAt = nowMs + leaseMs
  return {
    ...record,
    state: 'claimed',
    fingerprint,
    token,
    fence: (before?.fence ?? 0) + 1,
    hasEffects: false,
    leaseMs,
    retentionMs,
    leaseEndsAt,
    expiresAt: leaseEndsAt + retentionMs,
  }
}

function historyOf({ fence, hits, origin, firstUsedAt }: IdempotencyRecord, nowMs: number): KeyHistory {
  return { fence, hits, origin, firstUsedAt, usedAt: nowMs }
}
