/** Keeps a run's lease while its body runs. */
import { diag } from '@opentelemetry/api'
import type { ClaimToken, IdempotencyStore } from './contract.js'

// A longer timer fires at once (https://nodejs.org/api/timers.html#settimeoutcallback-delay-args).
const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * Renews at every third of the lease, so that one lost answer does not lose the lease. The timer does not
 * keep the process alive. The function returned ends it.
 *
 * @param onLost called once, when the store says that another run owns the record
 */
export function keepLease(
  store: IdempotencyStore,
  token: ClaimToken,
  leaseMs: number,
  onLost: () => void,
): () => void {
  let isOver = false
  let isAsking = false
  let hasWarned = false
  const timer = setInterval(renew, Math.min(leaseMs / 3, LONGEST_TIMER_MS))
  timer.unref()

  async function renew(): Promise<void> {
    if (isAsking) return
    isAsking = true
    try {
      const isKept = await store.renew(token)
      if (isKept || isOver) return
      end()
      onLost()
    } catch (cause) {
      // The next third asks again: an outage shorter than the lease costs nothing.
      if (!hasWarned) diag.warn(`throughline: the ${store.name} store did not renew a lease.`, cause)
      hasWarned = true
    } finally {
      isAsking = false
    }
  }

  function end(): void {
    isOver = true
    clearInterval(timer)
  }
  return end
}
