/** The guarded run that the code running now is in: what it sends on derives its own keys from it. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { processWide } from '../context/index.js'
import type { Identity } from './identity.js'

export interface ActiveRun {
  readonly identity: Identity
  /** Messages sent so far, by topic: a rerun of the same payload sends the same ones in the same order. */
  readonly sent: Map<string, number>
}

const storage = processWide('idempotency.active-run', () => new AsyncLocalStorage<ActiveRun>())

export function inActiveRun<T>(identity: Identity, body: () => T): T {
  return storage.run({ identity, sent: new Map() }, body)
}

/** Undefined outside a guarded run. */
export function activeRun(): ActiveRun | undefined {
  return storage.getStore()
}
