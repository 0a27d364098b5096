/** How a guarded body ended, and what of it is kept. */
import { diag } from '@opentelemetry/api'
import { encodeResult, type RunResult } from './codec.js'
import type { GuardedUse } from './run.js'

export type BodyEnd<T> = { isThrown: false; value: T } | { isThrown: true; error: unknown }

export async function endOf<T>(body: () => T | Promise<T>): Promise<BodyEnd<T>> {
  try {
    return { isThrown: false, value: await body() }
  } catch (error) {
    return { isThrown: true, error }
  }
}

/** What to keep for replays; undefined when the run failed. */
export function resultOf(end: BodyEnd<unknown>, { thrown }: GuardedUse): RunResult | undefined {
  if (!end.isThrown) return { kind: 'returned', value: end.value }
  const value = thrown?.capture(end.error)
  return value === undefined ? undefined : { kind: 'thrown', value }
}

/** The result as a store keeps it. One that cannot be written is kept as done, and not replayable. */
export function keptText(result: RunResult, { name, maxResultBytes }: GuardedUse): string {
  const { text, whyOpaque } = encodeResult(result, maxResultBytes)
  if (whyOpaque !== undefined) {
    diag.warn(
      `throughline: The result of "${name}" cannot be replayed. ${whyOpaque} A repeat will be refused.`,
    )
  }
  return text
}
