/** What a Postgres store does beside a claim, in the background: looks at the server once, and sweeps. */
import { logger } from '../../logging/index.js'
import type { Database } from '../../postgres/database.js'
import { type Records, tableMissingError } from './postgres-records.js'

/**
 * Returns what to call beside each claim, which waits for nothing of it.
 *
 * @param sweepEveryMs 0: never
 * @throws {TypeError} for anything but a whole number of milliseconds
 */
export function upkeepOf(
  { run }: Database<unknown>,
  { statements, table, clock }: Records,
  sweepEveryMs: number,
): () => void {
  if (!Number.isSafeInteger(sweepEveryMs) || sweepEveryMs < 0) {
    throw new TypeError(
      `postgresStore: "sweepEveryMs" must be a whole number of milliseconds, or 0, received ${sweepEveryMs}.`,
    )
  }
  let hasLooked = false
  let nextSweepMs = 0
  const look = async () => {
    const { hasTable, isReplica } = JSON.parse((await run(statements.look, [])) ?? '{}')
    if (hasTable === false) logger.warn(`throughline: ${tableMissingError(table).message}`)
    if (isReplica === true) {
      logger.warn(
        'throughline: this Postgres is a replica, which refuses claims. Connect postgresStore to the primary.',
      )
    }
  }
  return () => {
    // Not when the store is made: a build makes it too, and should not open a connection.
    if (!hasLooked) look().catch(() => {})
    hasLooked = true
    if (sweepEveryMs === 0 || performance.now() < nextSweepMs) return
    nextSweepMs = performance.now() + sweepEveryMs
    // Whatever is wrong, the claim beside it says so.
    run(statements.sweep, [clock()]).catch(() => {})
  }
}
