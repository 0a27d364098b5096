/** A run that owns its key: keeps the lease, runs the body, and tells the store how it ended. */
import { diag } from '@opentelemetry/api'
import { endOf, keptText, resultOf } from './body-end.js'
import type { RunResult } from './codec.js'
import type { ClaimToken, IdempotencyStore, OwnedClaim } from './contract.js'
import { effectsOf } from './effects.js'
import { openFlight } from './flights.js'
import { keepLease } from './lease.js'
import { leaseLostError } from './refusals.js'
import type { GuardedUse, Run } from './run.js'

type Body<T> = (run: Run) => T | Promise<T>

/** Runs the body under its claim. Ends as the body did, unless the store refuses the result. */
export async function runGuarded<T>(
  store: IdempotencyStore,
  use: GuardedUse,
  claim: OwnedClaim,
  body: Body<T>,
): Promise<T> {
  const { outcome, token, fence, hits } = claim
  const lost = new LostSignal()
  const effects = effectsOf(store, use, token)
  const endFlight = openFlight(store, use)
  const endLease = keepLease(store, token, use.leaseMs, () => lost.abort(leaseLostError(use)))
  let kept: string | undefined
  try {
    const end = await endOf(() =>
      body({
        outcome,
        isReplay: false,
        fence,
        hits,
        correlationId: use.origin?.correlationId,
        get signal() {
          return lost.signal
        },
        markEffects: effects.mark,
      }),
    )
    // Two thirds of the lease are left: enough for the round trip that follows.
    endLease()
    const result = resultOf(end, use)
    if (result !== undefined) kept = await complete(store, use, token, result)
    else if (end.isThrown) await giveUp(store, use, token, effects.mayHaveHappened(end.error))
    if (end.isThrown) throw end.error
    return end.value
  } finally {
    endLease()
    endFlight(kept)
  }
}

/** `run.signal`, made for the body that looks at it: most do not. */
class LostSignal {
  #controller: AbortController | undefined
  #reason: unknown

  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#reason !== undefined) this.#controller.abort(this.#reason)
    return this.#controller.signal
  }

  abort(reason: unknown): void {
    this.#reason = reason
    this.#controller?.abort(reason)
  }
}

/** Runs the body without a claim: the store is out, and the caller chose to go on. */
export function runUnguarded<T>({ origin }: GuardedUse, body: Body<T>): T | Promise<T> {
  return body({
    outcome: 'unguarded',
    isReplay: false,
    fence: 0,
    hits: 0,
    correlationId: origin?.correlationId,
    signal: new AbortController().signal,
    markEffects: () => Promise.resolve(),
  })
}

/** Returns what was stored, for callers that share the flight. */
async function complete(
  store: IdempotencyStore,
  use: GuardedUse,
  token: ClaimToken,
  result: RunResult,
): Promise<string> {
  const text = keptText(result, use)
  let isAccepted = true
  try {
    isAccepted = await store.complete(token, text)
  } catch (cause) {
    // It is done, and the caller must learn the result. Repeats are busy until the lease ends.
    diag.warn(`throughline: the ${store.name} store did not keep the result of "${use.name}".`, cause)
  }
  if (!isAccepted) throw leaseLostError(use)
  return text
}

/** Never hides the body's error. Refused or unanswered, the lease decides. */
async function giveUp(
  store: IdempotencyStore,
  { name }: GuardedUse,
  token: ClaimToken,
  mayHaveEffects: boolean,
): Promise<void> {
  try {
    await (mayHaveEffects ? store.markUnknown(token) : store.abort(token))
  } catch (cause) {
    diag.warn(`throughline: the ${store.name} store did not learn that "${name}" failed.`, cause)
  }
}
