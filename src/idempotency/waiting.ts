/** Claims a key, and waits for a run in flight when asked to. */

import { recordSeconds } from '../telemetry/meter.js'
import { METRIC } from '../telemetry/names.js'
import type { AnyStore, Claim, ClaimRequest, IdempotencyStore } from './contract.js'
import { flightOf } from './flights.js'

const FIRST_POLL_MS = 25
const LONGEST_POLL_MS = 1_000

/**
 * One claim; with `waitMs`, further ones until the key is no longer busy or the time is over.
 *
 * A run in this process is awaited without asking the store, and its result is taken from it: callers share
 * one flight. A run elsewhere is asked after, with growing and jittered pauses.
 *
 * Rejects only when the first claim does. Later failures count as still busy: it is known by then that a run
 * is in flight, so another must not start, whatever the outage policy.
 */
export async function claimOrWait(
  store: IdempotencyStore,
  request: ClaimRequest,
  waitMs: number | undefined,
): Promise<Claim> {
  let claim = await timedClaim(store, request)
  if (waitMs === undefined || claim.outcome !== 'busy') return claim
  const deadline = performance.now() + waitMs
  // The winner's claim may be answered in this very turn: let it announce its flight.
  await pause(0)
  for (let poll = 0; claim.outcome === 'busy'; poll += 1) {
    const leftMs = deadline - performance.now()
    if (leftMs <= 0) return claim
    const flight = flightOf(store, request)
    if (flight === undefined) {
      await pause(Math.min(pauseMs(poll), leftMs))
    } else {
      const result = await within(leftMs, flight)
      if (result !== undefined) return { ...claim, outcome: 'replay', result }
    }
    claim = await timedClaim(store, { ...request, isRepeat: true }).catch(() => claim)
  }
  return claim
}

/**
 * Waits until no run of this process holds the key, or the time is over.
 *
 * @returns how much of `waitMs` is left; 0 when the key is still held; undefined when it is free and nothing
 * was to be waited for
 */
export async function landingOf(
  store: AnyStore,
  request: ClaimRequest,
  waitMs: number | undefined,
): Promise<number | undefined> {
  const deadline = performance.now() + (waitMs ?? 0)
  for (let flight = flightOf(store, request); flight !== undefined; flight = flightOf(store, request)) {
    const leftMs = deadline - performance.now()
    if (leftMs <= 0) return 0
    await within(leftMs, flight)
  }
  return waitMs === undefined ? undefined : Math.max(1, Math.ceil(deadline - performance.now()))
}

async function timedClaim(store: IdempotencyStore, request: ClaimRequest): Promise<Claim> {
  const startedMs = performance.now()
  let outcome: string = 'error'
  try {
    const claim = await store.claim(request)
    outcome = claim.outcome
    return claim
  } finally {
    recordClaim(store, startedMs, outcome)
  }
}

/** Tells how long a claim took, and what came of it; `error` when the store did not answer. */
export function recordClaim(store: AnyStore, startedMs: number, outcome: string): void {
  const seconds = (performance.now() - startedMs) / 1000
  recordSeconds(METRIC.idempotencyClaimDuration, seconds, { outcome, store: store.name })
}

// Half fixed, half random: callers that began together do not ask together.
function pauseMs(poll: number): number {
  const longest = Math.min(FIRST_POLL_MS * 2 ** poll, LONGEST_POLL_MS)
  return longest / 2 + (Math.random() * longest) / 2
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined)
  })
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer))
}
