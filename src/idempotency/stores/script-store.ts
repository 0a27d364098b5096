/**
 * Records kept by the two Lua scripts of `redis-scripts.ts`, whichever client carries them. One record is one
 * hash, so a claim and each verb are one command.
 */
import type { IdempotencyOutcome } from '../../telemetry/idempotency.js'
import {
  type Claim,
  type ClaimToken,
  type IdempotencyRecord,
  type IdempotencyStore,
  type KeyUse,
  TIMELINE_LENGTH,
} from '../contract.js'
import { type GuaranteeOf, guaranteeOf, type OnUnknown, onUnknownOf } from '../on-unknown.js'
import { createToken, keyOfToken } from '../token.js'
import { CLAIM, type Script, SETTLE } from './redis-scripts.js'

/** One record's key, and what is done to it. */
export interface ScriptCalls {
  /** Runs a script on one key: one round trip, or two when the server has not seen the script yet. */
  run(script: Script, key: string, args: string[]): Promise<unknown>
  /** All fields of a hash; empty when there is none. */
  readHash(key: string): Promise<Record<string, string>>
}

/** How a store of this kind is set up. */
export interface ScriptStoreOptions<Choice extends OnUnknown = OnUnknown> {
  /**
   * What a repeat does when an earlier run may have had effects (it failed or died after `run.markEffects()`):
   * `retain` refuses it, at most once; `rerun` runs again, at least once. A KV cannot know, so you say.
   */
  onUnknown: Choice
  /** Begins every key of the store. Default `throughline:`. */
  prefix?: string
  /** Clock, in epoch milliseconds, for tests. Default: the server's own, which all callers share. */
  now?: () => number
}

type OwnerVerbName = 'complete' | 'abort' | 'renew' | 'markEffects' | 'markUnknown'

/** @param name the store's, in telemetry and messages */
export function scriptStore<Choice extends OnUnknown>(
  name: string,
  calls: ScriptCalls,
  options: ScriptStoreOptions<Choice>,
): IdempotencyStore<GuaranteeOf<Choice>> {
  // JavaScript may leave the options out.
  const { prefix = 'throughline:', now, onUnknown: choice } = options ?? ({} as Partial<typeof options>)
  const onUnknown = onUnknownOf(`${name}Store`, choice)
  const clock = () => (now === undefined ? '' : String(now()))
  // Braces: whatever else is ever kept of a key shares its cluster slot, whatever the prefix holds.
  const nameOf = (key: string) => `${prefix}{${key}}`

  async function settle(verb: OwnerVerbName, token: ClaimToken, result = ''): Promise<boolean> {
    const reply = await calls.run(SETTLE, nameOf(keyOfToken(token)), [verb, token, result, clock()])
    return Number(reply) === 1
  }

  return {
    name,
    guarantee: guaranteeOf(onUnknown),
    async claim({ key, fingerprint, leaseMs, retentionMs, origin, isRepeat = false }) {
      const reply = await calls.run(CLAIM, nameOf(key), [
        createToken(key),
        fingerprint,
        String(leaseMs),
        String(retentionMs),
        origin?.traceId ?? '',
        origin?.spanId ?? '',
        origin?.correlationId ?? '',
        isRepeat ? '1' : '0',
        clock(),
        onUnknown,
      ])
      return claimOf(reply)
    },
    complete: (token, result) => settle('complete', token, result),
    abort: (token) => settle('abort', token),
    renew: (token) => settle('renew', token),
    markEffects: (token) => settle('markEffects', token),
    markUnknown: (token) => settle('markUnknown', token),
    async read(key) {
      const record = recordOf(await calls.readHash(nameOf(key)))
      return record !== undefined && now !== undefined && record.expiresAt <= now() ? undefined : record
    },
  }
}

function claimOf(reply: unknown): Claim {
  if (!Array.isArray(reply))
    throw new Error(`The store answered a claim with ${typeof reply}, not with a list.`)
  const [
    outcome = '',
    token = '',
    fence,
    hits,
    firstUsedAt,
    usedAt,
    traceId = '',
    spanId,
    correlationId,
    result,
  ] = reply.map(String)
  const history = {
    fence: Number(fence),
    hits: Number(hits),
    origin: originOf(traceId, spanId, correlationId),
    firstUsedAt: Number(firstUsedAt),
    usedAt: Number(usedAt),
  }
  if (outcome === 'won' || outcome === 'takeover') return { ...history, outcome, token }
  if (outcome === 'replay') return { ...history, outcome, result: result ?? '' }
  if (outcome === 'busy' || outcome === 'mismatch' || outcome === 'unknown') return { ...history, outcome }
  throw new Error(`The store answered a claim with the outcome "${outcome}".`)
}

function recordOf(hash: Record<string, string>): IdempotencyRecord | undefined {
  if (hash.state === undefined) return undefined
  return {
    state: hash.state as IdempotencyRecord['state'],
    fingerprint: hash.fingerprint ?? '',
    token: hash.token ?? '',
    fence: Number(hash.fence),
    hasEffects: hash.hasEffects === '1',
    origin: originOf(hash.originTrace, hash.originSpan, hash.originCorrelation),
    firstUsedAt: Number(hash.firstUsedAt),
    hits: Number(hash.hits),
    uses: usesOf(hash),
    result: hash.result,
    leaseMs: Number(hash.leaseMs),
    retentionMs: Number(hash.retentionMs),
    leaseEndsAt: Number(hash.leaseEndsAt),
    expiresAt: Number(hash.expiresAt),
  }
}

function originOf(traceId = '', spanId = '', correlationId = ''): IdempotencyRecord['origin'] {
  return traceId === '' ? undefined : { traceId, spanId, correlationId }
}

// The ring's next free place is the oldest use.
function usesOf(hash: Record<string, string>): KeyUse[] {
  const count = Number(hash.uses)
  const length = Math.min(count, TIMELINE_LENGTH)
  return Array.from({ length }, (_, index) => {
    const [at, outcome, traceId = ''] = (
      hash[`use:${(count - length + index) % TIMELINE_LENGTH}`] ?? ''
    ).split('|')
    return { at: Number(at), outcome: outcome as IdempotencyOutcome, traceId }
  })
}
