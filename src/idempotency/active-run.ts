/** The run that the code running now is in, which may be run again: what it sends on derives its own keys from it. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { processWide } from '../context/index.js'

export interface ActiveRun {
  /** The same on every try: the identity of a guarded run, or the message that is handled. */
  readonly key: string
  /** Messages sent so far, by topic: a rerun of the same payload sends the same ones in the same order. */
  readonly sent: Map<string, number>
}

const storage = processWide('idempotency.active-run', () => new AsyncLocalStorage<ActiveRun>())

export function inActiveRun<T>(key: string, body: () => T): T {
  return storage.run({ key, sent: new Map() }, body)
}

/** Undefined outside a run. */
export function activeRun(): ActiveRun | undefined {
  return storage.getStore()
}
