import type { Logger } from 'pino'
import type { AnyStore, IdempotencyStore, RunOf } from '../idempotency/index.js'
import { logger } from '../logging/index.js'

/** Settings of a run that an action or a route hands on to `runOnce`. */
export type RunSettings =
  | 'leaseMs'
  | 'retentionMs'
  | 'retryHorizonMs'
  | 'inFlight'
  | 'outage'
  | 'maxResultBytes'
  | 'suspectWindowMs'
  | 'onUse'

/** The run, as the body of an action or of a route sees it: by the store, with the shared logger. */
export type LoggedRun<Store extends AnyStore = IdempotencyStore> = RunOf<Store> & {
  /** Its lines bear the request's IDs. */
  readonly log: Logger
}

/** Adds the logger. `run` has live getters, so it is extended, not copied. */
export function withLog<Store extends AnyStore>(run: RunOf<Store>): LoggedRun<Store> {
  return Object.create(run, { log: { value: logger, enumerable: true } })
}
