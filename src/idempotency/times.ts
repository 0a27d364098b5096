/** How long things last: the options of a run in milliseconds, checked, and warned about where they fall short. */
import { processWide } from '../context/index.js'
import type { RunOnceOptions } from './run.js'

const DEFAULT_LEASE_MS = 30_000
/** A hundred years: a time that stores can add to today's. */
const LONGEST_LEASE_MS = 100 * 365 * 86_400_000
const DEFAULT_RETENTION_MS = 86_400_000
const DEFAULT_RETRY_HORIZON_MS = 3_600_000
const DEFAULT_SUSPECT_WINDOW_MS = 60_000

/** Longest a function may run on Vercel unless a route says less or more (https://vercel.com/docs/functions/limitations). */
const VERCEL_LIMIT_MS = 300_000

const warned = processWide('idempotency.times.warned', () => new Set<string>())

type Times = Pick<RunOnceOptions, 'name' | 'leaseMs' | 'retentionMs' | 'retryHorizonMs' | 'suspectWindowMs'>

/**
 * @throws {TypeError} for a value that is not a whole number of milliseconds above 0; the retry horizon and
 * the window of suspicion may be 0.
 */
export function timesOf(options: Times): { leaseMs: number; retentionMs: number; suspectWindowMs: number } {
  const limitMs = platformLimitMs()
  const {
    leaseMs = Math.max(DEFAULT_LEASE_MS, limitMs),
    retentionMs = DEFAULT_RETENTION_MS,
    retryHorizonMs = DEFAULT_RETRY_HORIZON_MS,
    suspectWindowMs = DEFAULT_SUSPECT_WINDOW_MS,
  } = options
  assertMs('leaseMs', leaseMs)
  if (leaseMs > LONGEST_LEASE_MS) {
    throw new TypeError(`runOnce: "leaseMs" must be at most ${LONGEST_LEASE_MS}, received ${leaseMs}.`)
  }
  assertMs('retentionMs', retentionMs)
  if (retryHorizonMs !== 0) assertMs('retryHorizonMs', retryHorizonMs)
  if (suspectWindowMs !== 0) assertMs('suspectWindowMs', suspectWindowMs)
  if (retentionMs < retryHorizonMs) {
    warnOnce(
      `"${options.name}" forgets its result after ${retentionMs} ms, and its callers may retry for ${retryHorizonMs} ms: ` +
        'a retry after that runs again. Mend it with a longer retentionMs, or say a shorter retryHorizonMs.',
    )
  }
  if (leaseMs < limitMs) {
    warnOnce(
      `"${options.name}" has a lease of ${leaseMs} ms on a platform that lets a request run for ${limitMs} ms: ` +
        'a run that is frozen, or blocks the event loop, is taken over while it may still go on. Mend it with ' +
        'leaseMs no shorter than the limit, or set THROUGHLINE_PLATFORM_LIMIT_MS to the limit of your routes.',
    )
  }
  return { leaseMs, retentionMs, suspectWindowMs }
}

let knownLimitMs: number | undefined

/** 0 where it is not known. Read once: the environment is slow to read, and does not change. */
function platformLimitMs(): number {
  if (knownLimitMs === undefined) {
    const named = Number(process.env.THROUGHLINE_PLATFORM_LIMIT_MS)
    const ofVercel = process.env.VERCEL ? VERCEL_LIMIT_MS : 0
    knownLimitMs = Number.isSafeInteger(named) && named > 0 ? named : ofVercel
  }
  return knownLimitMs
}

function warnOnce(warning: string): void {
  if (warned.has(warning)) return
  warned.add(warning)
  // The logger is loaded for a warning alone: most processes give none.
  import('../logging/index.js').then(({ logger }) => logger.warn(`throughline: ${warning}`)).catch(() => {})
}

/** @throws {TypeError} */
export function assertMs(option: string, value: unknown): void {
  if (Number.isSafeInteger(value) && Number(value) > 0) return
  const received = typeof value === 'number' ? value : typeof value
  throw new TypeError(
    `runOnce: "${option}" must be a whole number of milliseconds above 0, received ${received}.`,
  )
}
