/** What `throughline({ … })` decides for every client of the process, also for those that a bundle wraps itself. */
import { processWide } from '../context/index.js'

/** KV keys of a hand-written recipe, when none are configured. */
export const DEFAULT_KEY_PATTERNS: readonly string[] = ['idempotency:*', 'idem:*']

/** A client of ioredis ≥5, node-redis ≥4 or `@upstash/redis`: the method called. */
export interface RaceStoreClient {
  eval(...args: never[]): unknown
}

export interface ClientSettings {
  /** Append the request's ID and its like to each statement, as a comment. */
  sqlComments: boolean
  /** Set Postgres' `application_name` to the request's ID. */
  sqlApplicationName: boolean
  /** KV keys of a hand-written recipe. */
  idempotencyKeys: readonly string[]
  /** Through which processes tell each other of the keys that their requests missed. */
  raceStore: RaceStoreClient | undefined
}

const settings = processWide<ClientSettings>('clients.settings', () => ({
  sqlComments: true,
  sqlApplicationName: false,
  idempotencyKeys: DEFAULT_KEY_PATTERNS,
  raceStore: undefined,
}))

/** The settings of this process. */
export function clientSettings(): Readonly<ClientSettings> {
  return settings
}

/** Called once, by `register()`. */
export function setClientSettings(given: Partial<ClientSettings>): void {
  Object.assign(settings, given)
}
