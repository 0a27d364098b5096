/** The run that the code running now is in, which may be run again: what it sends on derives its own keys from it. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { processWide } from './process-wide.js'

export interface ActiveRun {
  /** The same on every try: the identity of a guarded run, or the message that is handled. */
  readonly key: string
  /** Messages sent so far, by topic: a rerun of the same payload sends the same ones in the same order. */
  sent: Map<string, number>
  /** Transactions under way in it, and whether any ran beside another. */
  open: number
  isParallel: boolean
}

const storage = processWide('context.active-run', () => new AsyncLocalStorage<ActiveRun | undefined>())

export function inActiveRun<T>(key: string, body: () => T): T {
  return storage.run({ key, sent: new Map(), open: 0, isParallel: false }, body)
}

/** Undefined outside a run. */
export function activeRun(): ActiveRun | undefined {
  return storage.getStore()
}

export function outsideRuns<T>(body: () => T): T {
  return storage.run(undefined, body)
}

/** What has been sent when a transaction begins. */
export interface SendsMark {
  /** What was sent since was rolled back. */
  takeBack(): void
  /** The transaction is over. */
  end(): void
}

/**
 * Beside another transaction nothing is taken back: what that one has sent would be taken back with it, and the next
 * message get the ID of one that is there. A rerun may send twice then, and never too little.
 */
export function markSends(): SendsMark {
  const run = activeRun()
  if (run === undefined) return { takeBack() {}, end() {} }
  const sent = new Map(run.sent)
  run.open += 1
  run.isParallel ||= run.open > 1
  return {
    takeBack() {
      if (!run.isParallel) run.sent = new Map(sent)
    },
    end() {
      run.open -= 1
      if (run.open === 0) run.isParallel = false
    },
  }
}
