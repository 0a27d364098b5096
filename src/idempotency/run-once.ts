/** Run once, replay after. One path: identify, claim, show, then run, replay or refuse. */
import { diag } from '@opentelemetry/api'
import { inActiveRun } from '../context/active-run.js'
import type { BodyEnd } from './body-end.js'
import { decodeResult } from './codec.js'
import {
  type AnyStore,
  type Claim,
  type IdempotencyStore,
  isOwned,
  type RepeatClaim,
  type TransactionalStore,
} from './contract.js'
import { runGuarded, runUnguarded } from './guarded-run.js'
import { prepareUse, waitMsOf } from './guarded-use.js'
import {
  busyError,
  mismatchError,
  notReplayableError,
  storeUnavailableError,
  unknownError,
} from './refusals.js'
import type { GuardedUse, Run, RunOf, RunOnceOptions, ThrownCodec, TransactionRun } from './run.js'
import { showClaim, showUnguarded } from './shown-use.js'
import { runInTransaction } from './transaction-run.js'
import { claimOrWait } from './waiting.js'

type Body<R, T> = (run: R) => T | Promise<T>

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
  const use = await prepareUse(options)
  const inRun = (run: unknown) => inActiveRun(use.identity.key, () => body(run as RunOf<Store>))
  return isTransactional(store)
    ? runOnceInTransaction(store, use, waitMs, options, inRun)
    : runOnceBeside(store as IdempotencyStore, use, waitMs, options, inRun)
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
    showUnguarded(use, store, options)
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

function assertOutage(store: AnyStore, outage: unknown): void {
  const allowed = isTransactional(store) ? ['closed'] : ['closed', 'open']
  if (outage === undefined || allowed.includes(String(outage))) return
  throw new TypeError(
    `runOnce: "outage" must be ${allowed.join(' or ')} for the ${store.name} store, received ${JSON.stringify(outage)}.`,
  )
}

function isTransactional(store: AnyStore): store is TransactionalStore<unknown> {
  return 'transact' in store
}
