import type { Logger } from 'pino'
import type { Run } from '../idempotency/index.js'
import { logger } from '../logging/index.js'

/** The run, as the body of an action or of a route sees it. */
export interface LoggedRun extends Run {
  /** The shared logger; its lines bear the request's IDs. */
  readonly log: Logger
}

/** Adds the logger. `run` has live getters, so it is extended, not copied. */
export function withLog(run: Run): LoggedRun {
  return Object.create(run, { log: { value: logger, enumerable: true } })
}
