/** Why a use of a key did not run, as errors. A message names the run and the key's hash, never the key. */
import { ThroughlineError } from '../errors.js'
import type { GuardedUse } from './run.js'

/** Who was refused. */
type RefusedUse = Pick<GuardedUse, 'name' | 'identity'>

export function busyError({ name, identity }: RefusedUse, waitedMs?: number): ThroughlineError {
  return new ThroughlineError(
    'IDEMPOTENCY_BUSY',
    `"${name}" is already running for key ${identity.keyHash}.`,
    {
      why:
        waitedMs === undefined
          ? 'The first use of the key has not ended yet.'
          : `The first use of the key did not end within the ${waitedMs} ms that this one waited.`,
      fix: 'Send the same key again later, or let runOnce wait: inFlight: { waitMs }.',
    },
  )
}

export function mismatchError({ name, identity }: RefusedUse): ThroughlineError {
  return new ThroughlineError(
    'IDEMPOTENCY_MISMATCH',
    `"${name}" was called with another payload under a used key ${identity.keyHash}.`,
    {
      why: 'A key stands for one payload; the first use had a different one.',
      fix: 'Send a new key with a new payload, and the old payload with a retry.',
    },
  )
}

export function unknownError({ name, identity }: RefusedUse): ThroughlineError {
  return new ThroughlineError(
    'IDEMPOTENCY_UNKNOWN',
    `"${name}" may have happened for key ${identity.keyHash}.`,
    {
      why: 'An earlier run failed or died after its effects began, so it is not known whether they took place.',
      fix: 'Find out what the earlier run did, then send a new key if it is to happen again.',
    },
  )
}

export function notReplayableError({ name, identity }: RefusedUse, why: string): ThroughlineError {
  return new ThroughlineError(
    'IDEMPOTENCY_NOT_REPLAYABLE',
    `"${name}" is done for key ${identity.keyHash}, but its result cannot be replayed.`,
    { why, fix: 'Return plain data from the run: an ID to read the rest by is best.' },
  )
}

export function leaseLostError({ name, identity }: RefusedUse, cause?: unknown): ThroughlineError {
  return new ThroughlineError(
    'IDEMPOTENCY_LEASE_LOST',
    `"${name}" ran for key ${identity.keyHash}, but its result was refused.`,
    {
      why: 'The run was silent for longer than its lease and another took over, or the store lost the record: its effects may have happened twice.',
      fix: 'Raise leaseMs, do not block the event loop, and await run.markEffects() before the first effect.',
      cause,
    },
  )
}

export function leaseLostBeforeEffectsError({ name, identity }: RefusedUse): ThroughlineError {
  return new ThroughlineError(
    'IDEMPOTENCY_LEASE_LOST',
    `"${name}" lost its lease for key ${identity.keyHash} before its effects began.`,
    {
      why: 'The run was silent for longer than its lease and another took over, or the store lost the record.',
      fix: 'Let the error end the run; raise leaseMs if it happens often.',
    },
  )
}

export function storeUnavailableError(
  { name }: Pick<RefusedUse, 'name'>,
  store: string,
  cause: unknown,
): ThroughlineError {
  return new ThroughlineError(
    'STORE_UNAVAILABLE',
    `"${name}" did not run: the ${store} store did not answer.`,
    {
      why: "Without the store a repeat cannot be told from a first use, and the run is set to refuse then (outage: 'closed').",
      fix: "Send the same key again when the store is back, or choose outage: 'open' for runs that may happen twice.",
      cause,
    },
  )
}
