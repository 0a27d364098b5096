/** Records kept by the Lua scripts of `redis-scripts.ts`, whichever client carries them: one command for each method. */
import type { IdempotencyOutcome } from '../../telemetry/idempotency.js'
import {
  type Claim,
  type ClaimRequest,
  type ClaimToken,
  type IdempotencyRecord,
  type IdempotencyStore,
  type KeyUse,
  TIMELINE_LENGTH,
} from '../contract.js'
import { type GuaranteeOf, guaranteeOf, type OnUnknown, onUnknownOf } from '../on-unknown.js'
import { createToken, keyOfToken } from '../token.js'
import { CLAIM, READ, type Script, SETTLE } from './redis-scripts.js'

/** How a client runs a script. */
export interface ScriptCalls {
  /** One round trip, or two when the server has not seen the script yet. */
  run(script: Script, keys: string[], args: string[]): Promise<unknown>
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
  const clock = () => (now === undefined ? [] : [String(now())])
  // Braces: what belongs to a key is in one slot of a cluster, whatever the prefix holds.
  const recordOf = (key: string) => `${prefix}{${key}}`
  const usesOf = (key: string) => `${prefix}{${key}}:uses`

  async function settle(verb: OwnerVerbName, token: ClaimToken, result = ''): Promise<boolean> {
    const args = [verb, token, result, ...clock()]
    return Number(await calls.run(SETTLE, [recordOf(keyOfToken(token))], args)) === 1
  }

  return {
    name,
    guarantee: guaranteeOf(onUnknown),
    async claim(request) {
      const { key, fingerprint, leaseMs, retentionMs, origin, isRepeat = false } = request
      const token = createToken(key)
      const reply = await calls.run(
        CLAIM,
        [recordOf(key), usesOf(key)],
        [
          token,
          `${fingerprint}|${writeOrigin(origin)}`,
          String(leaseMs),
          String(retentionMs),
          String(leaseMs + retentionMs),
          isRepeat ? 'repeat' : 'use',
          onUnknown,
          ...clock(),
        ],
      )
      return Array.isArray(reply)
        ? claimOf(reply.map(String), token)
        : firstClaim(Number(reply), token, origin)
    },
    complete: (token, result) => settle('complete', token, result),
    abort: (token) => settle('abort', token),
    renew: (token) => settle('renew', token),
    markEffects: (token) => settle('markEffects', token),
    markUnknown: (token) => settle('markUnknown', token),
    async read(key) {
      const [found, ...uses] = (await calls.run(READ, [recordOf(key), usesOf(key)], [])) as string[]
      if (found === undefined) return undefined
      const record = readRecord(String(found), uses.map(String))
      return now !== undefined && record.expiresAt <= now() ? undefined : record
    },
  }
}

function firstClaim(usedAt: number, token: ClaimToken, origin: ClaimRequest['origin']): Claim {
  return { outcome: 'won', token, fence: 1, hits: 0, origin, firstUsedAt: usedAt, usedAt }
}

function claimOf(reply: string[], token: ClaimToken): Claim {
  const [outcome, fence, hits, firstUsedAt, usedAt, origin = '', result] = reply
  const history = {
    fence: Number(fence),
    hits: Number(hits),
    origin: readOrigin(...origin.split('|')),
    firstUsedAt: Number(firstUsedAt),
    usedAt: Number(usedAt),
  }
  if (outcome === 'won' || outcome === 'takeover') return { ...history, outcome, token }
  if (outcome === 'replay') return { ...history, outcome, result: result ?? '' }
  if (outcome === 'busy' || outcome === 'mismatch' || outcome === 'unknown') return { ...history, outcome }
  throw new Error(`The store answered a claim with the outcome "${outcome}".`)
}

/** Fields of a record before its result, in their order: see `redis-scripts.ts`. */
const HEAD_FIELDS = 12

function readRecord(found: string, uses: string[]): IdempotencyRecord {
  const fields = found.split('|', HEAD_FIELDS)
  const [state, token = '', fence, hasEffects, lease, retention, ends, firstUsedAt = '', ...intent] = fields
  const [fingerprint = '', trace, span, correlation] = intent
  const later = uses.map((use) => use.split('|')).filter(([life]) => life === firstUsedAt)
  const result = found.slice(fields.join('|').length + 1)
  return {
    state: state as IdempotencyRecord['state'],
    fingerprint,
    token,
    fence: Number(fence),
    hasEffects: hasEffects === '1',
    origin: readOrigin(trace, span, correlation),
    firstUsedAt: Number(firstUsedAt),
    hits: Number(later.at(-1)?.[1] ?? 0),
    uses: timelineOf(Number(firstUsedAt), trace, later),
    leaseMs: Number(lease),
    retentionMs: Number(retention),
    leaseEndsAt: Number(ends),
    expiresAt: Number(ends) + Number(retention),
    result: state === 'completed' ? result : undefined,
  }
}

// The first use is not in the list: the record itself tells of it.
function timelineOf(firstUsedAt: number, trace: string | undefined, later: string[][]): KeyUse[] {
  const first: KeyUse = { at: firstUsedAt, outcome: 'won', traceId: trace ?? '' }
  const rest = later.map(([, , at, outcome, traceId = '']) => ({
    at: Number(at),
    outcome: outcome as IdempotencyOutcome,
    traceId,
  }))
  return [first, ...rest].slice(-TIMELINE_LENGTH)
}

// A correlation ID that a script chose may hold a bar.
function writeOrigin(origin: ClaimRequest['origin']): string {
  if (origin === undefined) return '|||'
  return `${origin.traceId}|${origin.spanId}|${origin.correlationId.replaceAll(/[%|]/g, encodeURIComponent)}|`
}

function readOrigin(traceId = '', spanId = '', correlation = ''): IdempotencyRecord['origin'] {
  if (traceId === '') return undefined
  const correlationId = correlation.includes('%') ? decodeURIComponent(correlation) : correlation
  return { traceId, spanId, correlationId }
}
