/** What callers of an outbox may say, checked where they say it. */
import type { Topics } from './topics.js'

/** Names of schemas stand in statements as they are. */
export function isSchemaName(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]{0,49}$/.test(name)
}

export interface CheckedOptions {
  schema: string
  topics: Topics
  order: Record<string, unknown>
  retryLimit: number
  retryDelayMaxSeconds: number
  expireInSeconds: number
}

/** @throws {TypeError} naming the option and what was received. */
export function assertOptions(options: CheckedOptions): void {
  if (!isSchemaName(options.schema))
    throw new TypeError(
      'createOutbox: "schema" must be 1–50 letters, digits and _, and begin with none of the digits.',
    )
  assertWhole('createOutbox', 'retryLimit', options.retryLimit, 0)
  assertWhole('createOutbox', 'retryDelayMaxSeconds', options.retryDelayMaxSeconds, 1)
  assertWhole('createOutbox', 'expireInSeconds', options.expireInSeconds, 1, MAX_SECONDS)
  for (const [topic, policy] of Object.entries(options.order)) {
    if (!Object.hasOwn(options.topics, topic))
      throw new TypeError(`createOutbox: "order" names "${topic}", which is none of its topics.`)
    if (policy !== undefined && policy !== 'block' && policy !== 'skip')
      throw new TypeError(`createOutbox: "order" of "${topic}" must be 'block' or 'skip'.`)
  }
}

/** @throws {TypeError} */
export function assertWorkOptions(concurrency: number, pollingIntervalSeconds: number): void {
  assertWhole('outbox.work', 'concurrency', concurrency, 1)
  if (!(pollingIntervalSeconds > 0 && pollingIntervalSeconds <= MAX_SECONDS))
    throw new TypeError(
      `outbox.work: "pollingIntervalSeconds" must be a number above 0, received ${pollingIntervalSeconds}.`,
    )
}

/** @throws {TypeError} */
export function assertDeadline(deadlineMs: number): void {
  if (!(deadlineMs >= 0 && deadlineMs <= MAX_SECONDS * 1000))
    throw new TypeError(
      `outbox.drain: "deadlineMs" must be a number of milliseconds from 0 to a day, received ${deadlineMs}.`,
    )
}

/** @throws {TypeError} */
export function assertStartAfter(startAfter: unknown): void {
  if (startAfter === undefined) return
  const isTime =
    startAfter instanceof Date && Math.abs(startAfter.getTime() - Date.now()) <= RETENTION_SECONDS * 1000
  const isWait = typeof startAfter === 'number' && startAfter >= 0 && startAfter <= RETENTION_SECONDS
  if (!isTime && !isWait)
    throw new TypeError(
      'outbox.send: "startAfter" must be a Date, or a number of seconds from 0 on, within ten years.',
    )
}

/** A day: longer than anything waits here. */
const MAX_SECONDS = 86_400

/** For ever, as far as anyone will ask: a message is not to go without a word, as it would after pg-boss' 14 days. */
export const RETENTION_SECONDS = 10 * 365 * 86_400

function assertWhole(caller: string, name: string, value: number, least: number, most = 2 ** 31 - 1): void {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw new TypeError(
      `${caller}: "${name}" must be a whole number from ${least} to ${most}, received ${value}.`,
    )
}
