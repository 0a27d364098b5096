/**
 * Next's control flow, told from errors. `redirect()`, `notFound()`, `forbidden()` and `unauthorized()` are
 * thrown; each carries a `digest` that says what it is (next/dist/client/components, read in 15.5 and 16.4).
 */

import type { ThrownCodec } from '../idempotency/index.js'

/** How an action ended. */
export type ActionOutcome = 'ok' | 'redirect' | 'not_found' | 'forbidden' | 'unauthorized' | 'error'

/** What a thrown value says about the action: Next's control flow, or an error. */
export function outcomeOfThrown(thrown: unknown): ActionOutcome {
  const digest = digestOf(thrown)
  if (digest === undefined) return 'error'
  if (digest.startsWith('NEXT_REDIRECT;')) return 'redirect'
  if (digest === 'NEXT_NOT_FOUND') return 'not_found'
  switch (digest) {
    case 'NEXT_HTTP_ERROR_FALLBACK;404':
      return 'not_found'
    case 'NEXT_HTTP_ERROR_FALLBACK;403':
      return 'forbidden'
    case 'NEXT_HTTP_ERROR_FALLBACK;401':
      return 'unauthorized'
    default:
      return 'error'
  }
}

/** Rebuilds a thrown control-flow value from its digest, which is all that Next reads of it. */
function controlFlowFromDigest(digest: string): Error & { digest: string } {
  return Object.assign(new Error(digest.split(';', 1)[0]), { digest })
}

/** The digest of a thrown value, if it has one. */
export function digestOf(thrown: unknown): string | undefined {
  if (typeof thrown !== 'object' || thrown === null || !('digest' in thrown)) return undefined
  return typeof thrown.digest === 'string' ? thrown.digest : undefined
}

/** Next's control flow is a result: kept by its digest, thrown again on a replay. */
export const CONTROL_FLOW: ThrownCodec = {
  capture: (error) => (outcomeOfThrown(error) === 'error' ? undefined : digestOf(error)),
  restore: (digest) => controlFlowFromDigest(String(digest)),
}
