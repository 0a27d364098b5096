/** The point of no return of a run: `run.markEffects()`. */
import { diag } from '@opentelemetry/api'
import type { ClaimToken, IdempotencyStore } from './contract.js'
import { leaseLostBeforeEffectsError, storeUnavailableError } from './refusals.js'
import type { GuardedUse } from './run.js'

/** What a run knows of its effects. */
interface Effects {
  mark(): Promise<void>
  /** False when the run ended with this error before its effects began, and may be run again. */
  mayHaveHappened(error: unknown): boolean
}

/** Effects that are marked at the store, so that a crash after them is not taken for one before. */
export function effectsOf(store: IdempotencyStore, use: GuardedUse, token: ClaimToken): Effects {
  let marked: Promise<void> | undefined
  let refusal: unknown

  async function tellStore(): Promise<void> {
    let isAccepted: boolean
    try {
      isAccepted = await store.markEffects(token)
    } catch (cause) {
      if (use.outage === 'closed') throw storeUnavailableError(use, store.name, cause)
      diag.warn(
        `throughline: "${use.name}" has effects that the ${store.name} store does not know of.`,
        cause,
      )
      return
    }
    if (!isAccepted) throw leaseLostBeforeEffectsError(use)
  }

  return {
    mark() {
      if (marked === undefined) {
        marked = tellStore()
        // A body that does not await must not end the process by an unhandled rejection.
        marked.catch((error: unknown) => {
          refusal = error
        })
      }
      return marked
    },
    // A body that let the refusal through stopped in time. Any other error may come after an effect.
    mayHaveHappened: (error) => marked !== undefined && (refusal === undefined || error !== refusal),
  }
}
