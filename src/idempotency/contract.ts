/**
 * What a store of idempotency records does. One record per key; `record.ts` has the same machine as pure
 * code, and every store passes `test/contract/idempotency-store.ts`.
 *
 *                                 ┌── complete ────► completed
 *   absent ─── claim ───► claimed ├── markUnknown ─► unknown
 *                        ▲ │  ▲   └── abort ───────► aborted
 *                        └─┘  └────── claim ────────────┘
 *         renew, markEffects, claim after the lease
 *
 *   a claim finds                                 its outcome
 *   absent                                        won, fence 1
 *   aborted                                       won, fence + 1
 *   completed                                     replay
 *   unknown                                       unknown¹
 *   claimed, lease running                        busy
 *   claimed, lease over, effects not marked       takeover, fence + 1, another token
 *   claimed, lease over, effects marked           unknown¹ (its owner, should it live, may still complete)
 *   another fingerprint, and not aborted          mismatch, decided before all of the above
 *
 * ¹ takeover, fence + 1, in a store that was told `onUnknown: 'rerun'`.
 *
 * Any state ends in absent when its retention is over.
 *
 * An aborted run did nothing, so its key is free for another payload; the history of the key stays.
 *
 * Each method is atomic and one round trip. A verb other than `claim` needs the token of the run that owns
 * the record: a zombie, whose record was taken over, is refused. A command sent twice with one token (a
 * client that reconnects repeats what was not answered) is answered as the first time.
 */
import type { IdempotencyGuarantee, IdempotencyOrigin, IdempotencyOutcome } from '../telemetry/idempotency.js'

/** How many uses of a key its timeline keeps. */
export const TIMELINE_LENGTH = 32

/** Where records live. A method rejects only when the store does not answer; refusals are values. */
export interface IdempotencyStore<Guarantee extends IdempotencyGuarantee = IdempotencyGuarantee> {
  /** Short and lower case, for metrics and messages: `memory`, `redis`, … */
  readonly name: string
  /** What the store alone promises about the guarded effect. */
  readonly guarantee: Guarantee
  /** Uses the key. Never throws for a key that is taken: see `outcome`. */
  claim(request: ClaimRequest): Promise<Claim>
  /** Stores the result. False: refused, the run no longer owns the record. */
  complete(token: ClaimToken, result: string): Promise<boolean>
  /** The run did nothing: the key may be used again. False: refused. */
  abort(token: ClaimToken): Promise<boolean>
  /** Starts the lease anew. False: refused. */
  renew(token: ClaimToken): Promise<boolean>
  /** Renews, and says that effects begin: from here on a dead run is not taken over. False: refused. */
  markEffects(token: ClaimToken): Promise<boolean>
  /** The run failed after its effects began: the key never runs again. False: refused. */
  markUnknown(token: ClaimToken): Promise<boolean>
  /** The record as it is, without using the key: for tools and tests. */
  read(key: string): Promise<IdempotencyRecord | undefined>
}

/**
 * A store whose record commits or rolls back with the caller's own writes, so that every throw and every
 * crash before the commit leaves nothing, and every one after it leaves all: exactly once.
 */
export interface TransactionalStore<Tx> {
  /** Short and lower case, for metrics and messages: `postgres`, `hybrid`, … */
  readonly name: string
  readonly guarantee: 'exactly-once-tx'
  /**
   * Opens a transaction and uses the key in it. When the key is won, `body` runs in the transaction, and its
   * result is stored in it before the commit; when `body` rejects, all is rolled back, the record too.
   *
   * Another transaction that holds the key is waited for: up to `waitMs`, or just long enough to tell a run
   * from a replay when it is undefined. A waiter holds a connection.
   *
   * @throws whatever `body` threw, and what the database says of the claim or of the commit.
   */
  transact<T>(
    request: ClaimRequest,
    waitMs: number | undefined,
    body: (claim: OwnedClaim, tx: Tx) => Promise<{ value: T; result: string }>,
  ): Promise<Transacted<T>>
  /** The record as it is, without using the key: for tools and tests. */
  read(key: string): Promise<IdempotencyRecord | undefined>
}

/** How a use of a transactional store ended. */
export type Transacted<T> = { isRun: true; value: T } | { isRun: false; claim: RepeatClaim }

/** Any store that `runOnce` takes. */
// biome-ignore lint/suspicious/noExplicitAny: a store of any transaction is one.
export type AnyStore = IdempotencyStore | TransactionalStore<any>

/** Names one run of one key. Opaque: only a store looks inside. */
export type ClaimToken = string

/** One use of a key. */
export interface ClaimRequest {
  /** 64 hex digits, from `identityOf`. */
  key: string
  /** 64 hex digits, from `fingerprintOf`. */
  fingerprint: string
  /** How long a run may be silent before another takes over, in milliseconds. */
  leaseMs: number
  /** How long the record outlives its run, in milliseconds. */
  retentionMs: number
  /** Where this use comes from. */
  origin?: IdempotencyOrigin | undefined
  /** True when a waiting use asks again: the hit was counted before. Default false. */
  isRepeat?: boolean
}

/** What a claim found: see the diagram. */
export type Claim =
  | (KeyHistory & { outcome: 'won' | 'takeover'; token: ClaimToken })
  | (KeyHistory & { outcome: 'replay'; result: string })
  | (KeyHistory & { outcome: 'busy' | 'mismatch' | 'unknown' })

/** A claim whose caller runs. */
export type OwnedClaim = Extract<Claim, { token: ClaimToken }>

export function isOwned(claim: Claim): claim is OwnedClaim {
  return claim.outcome === 'won' || claim.outcome === 'takeover'
}

/** A claim whose caller does not run. A run that has not committed yet tells nothing of its key. */
export type RepeatClaim = Exclude<Claim, OwnedClaim> | { outcome: 'busy' }

/** What every claim tells of its key. */
export interface KeyHistory {
  /** Number of the current run, from 1: a later run has a higher one, for other systems to compare. */
  fence: number
  /** How often the key has been used after its first use, this use included. */
  hits: number
  /** Where the first use came from. */
  origin?: IdempotencyOrigin | undefined
  /** Epoch milliseconds, by the store's clock. */
  firstUsedAt: number
  /** When this use happened: epoch milliseconds, by the store's clock. */
  usedAt: number
}

/** One line of a key's timeline. */
export interface KeyUse {
  /** Epoch milliseconds, by the store's clock. */
  at: number
  outcome: IdempotencyOutcome
  /** 32 hex digits, or empty where there was no trace. */
  traceId: string
}

/** What a store keeps of a key. */
export interface IdempotencyRecord {
  state: 'claimed' | 'completed' | 'aborted' | 'unknown'
  fingerprint: string
  /** Of the current or last run. */
  token: ClaimToken
  fence: number
  /** True once the run said that its effects begin. */
  hasEffects: boolean
  origin?: IdempotencyOrigin | undefined
  /** Epoch milliseconds. */
  firstUsedAt: number
  hits: number
  /** The last `TIMELINE_LENGTH` uses, oldest first. */
  uses: readonly KeyUse[]
  /** Encoded by `codec.ts`; present when completed. */
  result?: string | undefined
  leaseMs: number
  retentionMs: number
  /** End of the lease, or of the run once it has ended, in epoch milliseconds. */
  leaseEndsAt: number
  /** From here on the record counts as absent, in epoch milliseconds: `leaseEndsAt` and the retention. */
  expiresAt: number
}
