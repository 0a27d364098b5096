/** What a guarded body sees of its run, and what a caller may set. Types only. */
import type { IdempotencyUse } from '../telemetry/idempotency.js'
import type { AnyStore, ClaimRequest, TransactionalStore } from './contract.js'
import type { Identity, KeySource, Scope } from './identity.js'

/** What a body knows of its run, whatever the store. */
interface CommonRun {
  /** Always false: a replay does not enter the body. */
  readonly isReplay: false
  /** How often the key had been used before this run. */
  readonly hits: number
  /** Undefined where no request and no span is active. */
  readonly correlationId: string | undefined
}

/** The run of a store apart from the app's writes, as the guarded body sees it. */
export interface Run extends CommonRun {
  /** `won`: the first. `takeover`: an earlier run died. `unguarded`: the store is out and the policy is `open`. */
  readonly outcome: 'won' | 'takeover' | 'unguarded'
  /** Number of this run, from 1; 0 when unguarded. Hand it to systems that refuse an older one. */
  readonly fence: number
  /** Aborted when another run has taken over: stop, the result will be refused. */
  readonly signal: AbortSignal
  /**
   * Says that effects begin: call and await it right before the first one that cannot be undone. Until
   * then a run that fails or dies is run again; after it, never: the key becomes `unknown`.
   *
   * One round trip. In force from the call on, even when not awaited; only awaiting keeps a run that has
   * lost its lease from its effects.
   *
   * @throws {ThroughlineError} `IDEMPOTENCY_LEASE_LOST`, `STORE_UNAVAILABLE`
   */
  markEffects(): Promise<void>
}

/** The run of a store in the caller's transaction, as the guarded body sees it. */
export interface TransactionRun<Tx> extends CommonRun {
  readonly outcome: 'won' | 'takeover'
  /**
   * The transaction, as your client hands it out. What is written through it commits with the record, and is
   * rolled back with it when the body throws: any throw leaves the key free. What is done elsewhere is not.
   */
  readonly tx: Tx
}

/** What the body of a run gets: by the store. */
export type RunOf<Store extends AnyStore> =
  Store extends TransactionalStore<infer Tx> ? TransactionRun<Tx> : Run

/** Stores what a body threw on purpose, and builds it again for a replay: a redirect, a domain error. */
export interface ThrownCodec {
  /** The data to store, as `codec.ts` can write it; undefined for an error that is a failure. */
  capture(error: unknown): unknown
  /** What a replay throws. */
  restore(data: unknown): unknown
}

/** How a run is guarded. */
export interface RunOnceOptions<Store extends AnyStore = AnyStore> {
  /** Name of the run, the same for every use: `createOrder`. */
  name: string
  /** Whose key this is: a user's or tenant's ID, or `global()`. Required. */
  scope: Scope | undefined
  /** 1–255 characters of printable ASCII without spaces, minted by whoever may retry. */
  key: unknown
  /** Where the key was read. A field is left out of the fingerprint. */
  keyFrom?: KeySource | undefined
  /**
   * What a use without a key does: is refused (default), or stands for itself by its payload, so that the
   * same payload from the same scope within `windowMs` is a repeat. For forms sent without JavaScript. Under
   * `global()` it is refused all the same: strangers who send the same would share a result.
   */
  withoutKey?: 'refuse' | { windowMs: number } | undefined
  /** What the run depends on. The same key with another payload is refused. */
  payload: unknown
  /**
   * How long a run may be silent before another takes over, in milliseconds; renewed by thirds. Default
   * 30,000, or the platform's own limit for a request where that is known and longer (Vercel: 300,000).
   */
  leaseMs?: number | undefined
  /** How long a result can be replayed, in milliseconds. Default 86,400,000: a day. */
  retentionMs?: number | undefined
  /**
   * How long callers may go on retrying, in milliseconds: a retention that is shorter is warned about, since
   * a late retry would run again. Default 3,600,000: an hour.
   */
  retryHorizonMs?: number | undefined
  /** While the first use runs: refuse at once (default), or wait up to so many milliseconds for its result. */
  inFlight?: 'refuse' | { waitMs: number } | undefined
  /**
   * When the store does not answer: refuse (`closed`, default), or run without guard (`open`). A store in the
   * transaction is the database itself: without it nothing can run.
   */
  outage?: (Store extends TransactionalStore<unknown> ? 'closed' : 'closed' | 'open') | undefined
  /** Which errors are results. Default none: every throw is a failure. */
  thrown?: ThrownCodec | undefined
  /** Largest result kept for replay, in bytes. Default 1,048,576. */
  maxResultBytes?: number | undefined
  /**
   * A first use whose payload this process saw under another key within so many milliseconds is flagged
   * `idempotency.suspect`, and runs. Default 60,000; 0 turns it off.
   */
  suspectWindowMs?: number | undefined
  /** Told what happened to the key, once per use, before the body runs or the result is replayed. */
  onUse?: ((use: IdempotencyUse) => void) | undefined
}

/** One use, prepared: everything of the options that a run needs. */
export interface GuardedUse extends ClaimRequest {
  name: string
  identity: Identity
  /** Names the payload within its scope and run, whatever the key. Stays in this process. */
  payloadName: string
  suspectWindowMs: number
  outage: 'closed' | 'open'
  thrown: ThrownCodec | undefined
  maxResultBytes: number | undefined
}
