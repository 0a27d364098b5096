/** Run once, replay after. One path: identify, claim, show, then run, replay or refuse. */
import { diag, trace } from '@opentelemetry/api'
import { currentOrigin, type IdempotencyUse, showIdempotencyUse } from '../telemetry/idempotency.js'
import { decodeResult } from './codec.js'
import type { Claim, IdempotencyStore } from './contract.js'
import { fingerprintOf } from './fingerprint.js'
import { runGuarded, runUnguarded } from './guarded-run.js'
import { identityOf } from './identity.js'
import {
  busyError,
  mismatchError,
  notReplayableError,
  storeUnavailableError,
  unknownError,
} from './refusals.js'
import type { GuardedUse, Run, RunOnceOptions, ThrownCodec } from './run.js'
import { claimOrWait } from './waiting.js'

const DEFAULT_LEASE_MS = 30_000
const DEFAULT_RETENTION_MS = 86_400_000

/**
 * Runs `body` once per key, and resolves to its result, also on a replay.
 *
 * A body that throws before `run.markEffects()` may run again; after it, the key is `unknown` and never
 * runs silently. A run that died is taken over when its lease ends, unless it had marked its effects.
 *
 * @throws {TypeError} for an option that is missing or out of range: nothing ran.
 * @throws {ThroughlineError} `IDEMPOTENCY_KEY_MISSING`, `IDEMPOTENCY_KEY_MALFORMED`, `IDEMPOTENCY_BUSY`,
 * `IDEMPOTENCY_MISMATCH`, `IDEMPOTENCY_UNKNOWN`, `IDEMPOTENCY_NOT_REPLAYABLE`, `STORE_UNAVAILABLE`: nothing
 * ran. `IDEMPOTENCY_LEASE_LOST`: it ran, and may have run twice.
 * @example
 * const order = await runOnce(
 *   store,
 *   { name: 'createOrder', scope: userId, key: form.get('key'), keyFrom: { field: 'key' }, payload: form },
 *   async (run) => {
 *     await run.markEffects()
 *     return charge(form, { fence: run.fence })
 *   },
 * )
 */
export async function runOnce<T>(
  store: IdempotencyStore,
  options: RunOnceOptions,
  body: (run: Run) => T | Promise<T>,
): Promise<T> {
  const waitMs = waitMsOf(options.inFlight)
  const use = await prepare(options)
  let claim: Claim
  try {
    claim = await claimOrWait(store, use, waitMs)
  } catch (cause) {
    if (use.outage === 'closed') throw storeUnavailableError(use, store.name, cause)
    diag.warn(`throughline: "${use.name}" runs without guard: the ${store.name} store did not answer.`, cause)
    // Nothing is known of the key, and a repeat would run again.
    show({ ...shownOf(use, store), outcome: 'unknown', isHit: false, guarantee: 'at-least-once' }, options)
    return runUnguarded(use, body)
  }

  show(
    {
      ...shownOf(use, store),
      outcome: claim.outcome,
      isHit: claim.hits > 0,
      hits: claim.hits,
      guarantee: store.guarantee,
      // Clocks of several store nodes may differ a little: an age is never negative.
      ageMs: Math.max(0, claim.usedAt - claim.firstUsedAt),
      fence: claim.fence,
      ...(claim.origin === undefined ? {} : { origin: claim.origin }),
    },
    options,
  )
  switch (claim.outcome) {
    case 'won':
    case 'takeover':
      return runGuarded(store, use, claim, body)
    case 'replay':
      return replay(use, claim.result) as T
    case 'busy':
      throw busyError(use, waitMs)
    case 'mismatch':
      throw mismatchError(use)
    case 'unknown':
      throw unknownError(use)
  }
}

async function prepare(options: RunOnceOptions): Promise<GuardedUse> {
  const { name, scope, key, keyFrom, payload, outage = 'closed', thrown, maxResultBytes } = options
  const { leaseMs = DEFAULT_LEASE_MS, retentionMs = DEFAULT_RETENTION_MS } = options
  assertMs('leaseMs', leaseMs)
  assertMs('retentionMs', retentionMs)
  const identity = identityOf(scope, name, key, keyFrom)
  const keyField = keyFrom !== undefined && 'field' in keyFrom ? keyFrom.field : undefined
  // Once, and before the body runs: it may change the payload.
  const fingerprint = await fingerprintOf(payload, keyField)
  const origin = currentOrigin()
  return { name, ...identity, fingerprint, leaseMs, retentionMs, origin, outage, thrown, maxResultBytes }
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

function shownOf({ name, keyHash }: GuardedUse, store: IdempotencyStore) {
  return { keyHash, action: name, store: store.name }
}

function show(use: IdempotencyUse, { onUse }: RunOnceOptions): void {
  showIdempotencyUse(trace.getActiveSpan(), use)
  try {
    onUse?.(use)
  } catch (cause) {
    // A run that is claimed must go on to its end.
    diag.warn('throughline: onUse threw.', cause)
  }
}

function waitMsOf(inFlight: RunOnceOptions['inFlight'] = 'refuse'): number | undefined {
  if (inFlight === 'refuse') return undefined
  if (typeof inFlight !== 'object') {
    throw new TypeError(`runOnce: "inFlight" must be 'refuse' or { waitMs }, received ${typeof inFlight}.`)
  }
  assertMs('inFlight.waitMs', inFlight.waitMs)
  return inFlight.waitMs
}

function assertMs(option: string, value: unknown): void {
  if (Number.isSafeInteger(value) && Number(value) > 0) return
  const received = typeof value === 'number' ? value : typeof value
  throw new TypeError(
    `runOnce: "${option}" must be a whole number of milliseconds above 0, received ${received}.`,
  )
}
