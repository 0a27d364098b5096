/** One use, prepared: its options checked, its key and payload hashed. */
import { currentOrigin } from '../telemetry/idempotency.js'
import { fingerprintOf } from './fingerprint.js'
import { identityOf, identityOfPayload } from './identity.js'
import type { GuardedUse, RunOnceOptions } from './run.js'
import { assertMs, timesOf } from './times.js'

/** @throws {TypeError | ThroughlineError} as `runOnce` says: nothing ran. */
export async function prepareUse(options: RunOnceOptions): Promise<GuardedUse> {
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
  // Strangers who send the same content share nothing: without a key, a scope of everyone is refused.
  const isKeyless =
    isMissing(key) && typeof withoutKey === 'object' && typeof scope === 'string' && scope !== ''
  const windowMs = isKeyless ? withoutKey.windowMs : undefined
  const times = timesOf(
    windowMs === undefined ? options : { ...options, retentionMs: windowMs, retryHorizonMs: 0 },
  )
  // Before the payload is read: a use that is refused costs nothing.
  const ofKey = windowMs === undefined ? identityOf(scope, name, key, keyFrom) : undefined
  const keyField = keyFrom !== undefined && 'field' in keyFrom ? keyFrom.field : undefined
  // Once, and before the body runs: it may change the payload.
  const fingerprint = await fingerprintOf(payload, keyField)
  const identity = ofKey ?? identityOfPayload(String(scope), name, fingerprint)
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

/** @throws {TypeError} */
export function waitMsOf(inFlight: RunOnceOptions['inFlight'] = 'refuse'): number | undefined {
  if (inFlight === 'refuse') return undefined
  if (typeof inFlight !== 'object') {
    throw new TypeError(`runOnce: "inFlight" must be 'refuse' or { waitMs }, received ${typeof inFlight}.`)
  }
  assertMs('inFlight.waitMs', inFlight.waitMs)
  return inFlight.waitMs
}
