/** Run once, replay after. One path: identify, claim, show, then run, replay or refuse. */
import { diag, trace } from '@opentelemetry/api'
import {
  countIdempotencyUse,
  currentOrigin,
  type IdempotencyUse,
  isUseSeen,
  showIdempotencyUse,
} from '../telemetry/idempotency.js'
import type { BodyEnd } from './body-end.js'
import { decodeResult } from './codec.js'
import {
  type AnyStore,
  type Claim,
  type IdempotencyStore,
  isOwned,
  type OwnedClaim,
  type Transacted,
  type TransactionalStore,
} from './contract.js'
import { fingerprintOf } from './fingerprint.js'
import { runGuarded, runUnguarded } from './guarded-run.js'
import { identityOf, identityOfPayload } from './identity.js'
import {
  busyError,
  mismatchError,
  notReplayableError,
  storeUnavailableError,
  unknownError,
} from './refusals.js'
import type { GuardedUse, Run, RunOf, RunOnceOptions, ThrownCodec, TransactionRun } from './run.js'
import { suspectOf } from './suspects.js'
import { assertMs, timesOf } from './times.js'
import { runInTransaction } from './transaction-run.js'
import { claimOrWait } from './waiting.js'

type Body<R, T> = (run: R) => T | Promise<T>

/** A claim whose caller does not run. */
type RepeatClaim = Exclude<Claim, OwnedClaim> | Extract<Transacted<never>, { isRun: false }>['claim']

/**
 * Runs `body` once per key, and resolves to its result, also on a replay.
 *
 * With a store in the caller's transaction (`postgresStore`, `hybridStore`) the body writes through `run.tx`:
 * a throw rolls back all of it, and the key is free again. With a store apart, a body that throws before
 * `run.markEffects()` may run again; after it, the key is `unknown`, and `onUnknown` of the store decides. A
 * run that died is taken over when its lease ends.
 *
 * @throws {TypeError} for an option that is missing or out of range: nothing ran.
 * @throws {ThroughlineError} `IDEMPOTENCY_KEY_MISSING`, `IDEMPOTENCY_KEY_MALFORMED`, `IDEMPOTENCY_BUSY`,
 * `IDEMPOTENCY_MISMATCH`, `IDEMPOTENCY_UNKNOWN`, `IDEMPOTENCY_NOT_REPLAYABLE`, `STORE_UNAVAILABLE`: nothing
 * ran. `IDEMPOTENCY_LEASE_LOST`: it ran, and may have run twice.
 * @example
 * const order = await runOnce(
 *   postgresStore(pool),
 *   { name: 'createOrder', scope: userId, key: form.get('key'), keyFrom: { field: 'key' }, payload: form },
 *   async ({ tx }) => insertOrder(tx, form),
 * )
 */
export async function runOnce<Store extends AnyStore, T>(
  store: Store,
  options: RunOnceOptions<NoInfer<Store>>,
  body: Body<RunOf<NoInfer<Store>>, T>,
): Promise<T> {
  const waitMs = waitMsOf(options.inFlight)
  assertOutage(store, options.outage)
  const use = await prepare(options)
  if (isTransactional(store)) {
    return runOnceInTransaction(store, use, waitMs, options, body as Body<TransactionRun<unknown>, T>)
  }
  return runOnceBeside(store as IdempotencyStore, use, waitMs, options, body as Body<Run, T>)
}

async function runOnceBeside<T>(
  store: IdempotencyStore,
  use: GuardedUse,
  waitMs: number | undefined,
  options: RunOnceOptions,
  body: Body<Run, T>,
): Promise<T> {
  let claim: Claim
  try {
    claim = await claimOrWait(store, use, waitMs)
  } catch (cause) {
    if (use.outage === 'closed') throw storeUnavailableError(use, store.name, cause)
    diag.warn(`throughline: "${use.name}" runs without guard: the ${store.name} store did not answer.`, cause)
    // Nothing is known of the key, and a repeat would run again.
    show(use, store, options, () => ({ outcome: 'unknown', isHit: false, guarantee: 'at-least-once' }))
    return runUnguarded(use, body)
  }
  showClaim(claim, use, store, options)
  if (isOwned(claim)) return runGuarded(store, use, claim, body)
  return answerRepeat(use, claim, waitMs) as T
}

async function runOnceInTransaction<Tx, T>(
  store: TransactionalStore<Tx>,
  use: GuardedUse,
  waitMs: number | undefined,
  options: RunOnceOptions,
  body: Body<TransactionRun<Tx>, T>,
): Promise<T> {
  const end = await runInTransaction(
    store,
    use,
    waitMs,
    (claim) => showClaim(claim, use, store, options),
    body,
  )
  if (end.isRun) return returned(end.value)
  showClaim(end.claim, use, store, options)
  return answerRepeat(use, end.claim, waitMs) as T
}

function returned<T>(end: BodyEnd<T>): T {
  if (end.isThrown) throw end.error
  return end.value
}

/** The stored result, or a refusal. */
function answerRepeat(use: GuardedUse, claim: RepeatClaim, waitMs: number | undefined): unknown {
  switch (claim.outcome) {
    case 'replay':
      return replay(use, claim.result)
    case 'busy':
      throw busyError(use, waitMs)
    case 'mismatch':
      throw mismatchError(use)
    case 'unknown':
      throw unknownError(use)
  }
}

async function prepare(options: RunOnceOptions): Promise<GuardedUse> {
  const {
    name,
    scope,
    key,
    keyFrom,
    payload,
    withoutKey,
    outage = 'closed',
    thrown,
    maxResultBytes,
  } = options
  const windowMs = isMissing(key) && typeof withoutKey === 'object' ? withoutKey.windowMs : undefined
  const times = timesOf(
    windowMs === undefined ? options : { ...options, retentionMs: windowMs, retryHorizonMs: 0 },
  )
  // Before the payload is read: a use that is refused costs nothing.
  const ofKey = windowMs === undefined ? identityOf(scope, name, key, keyFrom) : undefined
  const keyField = keyFrom !== undefined && 'field' in keyFrom ? keyFrom.field : undefined
  // Once, and before the body runs: it may change the payload.
  const fingerprint = await fingerprintOf(payload, keyField)
  const identity = ofKey ?? identityOfPayload(scope, name, fingerprint)
  return {
    name,
    key: identity.key,
    identity,
    payloadName: `${fingerprint} ${name.length} ${name} ${typeof scope === 'string' ? scope : ''}`,
    fingerprint,
    ...times,
    origin: currentOrigin(),
    outage,
    thrown,
    maxResultBytes,
  }
}

function isMissing(key: unknown): boolean {
  return key === undefined || key === null || key === ''
}

function replay(use: GuardedUse, text: string): unknown {
  const result = decodeResult(text)
  if (result.kind === 'returned') return result.value
  if (result.kind === 'opaque') throw notReplayableError(use, result.why)
  throw restorerOf(use).restore(result.value)
}

function restorerOf(use: GuardedUse): ThrownCodec {
  if (use.thrown !== undefined) return use.thrown
  throw notReplayableError(use, 'It was thrown, and this use has no "thrown" option to build it again.')
}

function showClaim(
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

function isTransactional(store: AnyStore): store is TransactionalStore<unknown> {
  return 'transact' in store
}

function assertOutage(store: AnyStore, outage: unknown): void {
  const allowed = isTransactional(store) ? ['closed'] : ['closed', 'open']
  if (outage === undefined || allowed.includes(String(outage))) return
  throw new TypeError(
    `runOnce: "outage" must be ${allowed.join(' or ')} for the ${store.name} store, received ${JSON.stringify(outage)}.`,
  )
}

function waitMsOf(inFlight: RunOnceOptions['inFlight'] = 'refuse'): number | undefined {
  if (inFlight === 'refuse') return undefined
  if (typeof inFlight !== 'object') {
    throw new TypeError(`runOnce: "inFlight" must be 'refuse' or { waitMs }, received ${typeof inFlight}.`)
  }
  assertMs('inFlight.waitMs', inFlight.waitMs)
  return inFlight.waitMs
}
