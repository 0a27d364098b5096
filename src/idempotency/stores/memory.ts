/** Records in this process: for tests, development and single-process servers. Nothing survives a restart. */
import { processWide } from '../../context/index.js'
import type { ClaimToken, IdempotencyRecord, IdempotencyStore } from '../contract.js'
import { type GuaranteeOf, guaranteeOf, type OnUnknown, onUnknownOf } from '../on-unknown.js'
import { claim, isExpired, type OwnerVerb, settle } from '../record.js'
import { createToken, keyOfToken } from '../token.js'

/** How a memory store is set up. */
export interface MemoryStoreOptions<Choice extends OnUnknown = 'retain'> {
  /** What a repeat does after a run that may have had effects. Default `retain`. */
  onUnknown?: Choice
  /** Stores of one name share their records, across Next's copies of this package. Default `default`. */
  name?: string
  /** Bound on records; the one that ended longest ago goes first, a running one never. Default 10,000. */
  maxRecords?: number
  /** Clock, in epoch milliseconds. Default `Date.now`. */
  now?: () => number
}

/**
 * A store that keeps its records in this process.
 *
 * Its guarantee holds within one process, and for as long as `maxRecords` leaves a record in place.
 *
 * @throws {TypeError} for an option that is out of range.
 */
export function memoryStore<Choice extends OnUnknown = 'retain'>(
  options: MemoryStoreOptions<Choice> = {},
): IdempotencyStore<GuaranteeOf<Choice>> {
  const { name = 'default', maxRecords = 10_000, now = () => Date.now() } = options
  if (!Number.isSafeInteger(maxRecords) || maxRecords < 1) {
    throw new TypeError(`memoryStore: "maxRecords" must be a whole number above 0, received ${maxRecords}.`)
  }
  const onUnknown = onUnknownOf('memoryStore', options.onUnknown as Choice | undefined)
  // Kept in the order in which records last changed state: the first that ended is the oldest that ended.
  const records = processWide(`idempotency.memory.${name}`, () => new Map<string, IdempotencyRecord>())

  async function apply(token: ClaimToken, verb: OwnerVerb): Promise<boolean> {
    const key = keyOfToken(token)
    const record = settle(records.get(key), token, verb, now())
    if (record === undefined) return false
    records.delete(key)
    records.set(key, record)
    return true
  }

  return {
    name: 'memory',
    guarantee: guaranteeOf(onUnknown),
    async claim(request) {
      const nowMs = now()
      const found = records.get(request.key)
      const used = claim(found, request, createToken(request.key), nowMs, onUnknown)
      if (found === undefined) makeRoom(records, maxRecords, nowMs)
      records.set(request.key, used.record)
      return used.claim
    },
    complete: (token, result) => apply(token, { verb: 'complete', result }),
    abort: (token) => apply(token, { verb: 'abort' }),
    renew: (token) => apply(token, { verb: 'renew' }),
    markEffects: (token) => apply(token, { verb: 'markEffects' }),
    markUnknown: (token) => apply(token, { verb: 'markUnknown' }),
    async read(key) {
      const record = records.get(key)
      return record === undefined || isExpired(record, now()) ? undefined : record
    },
  }
}

// A key whose run failed after its effects must not run again: it goes only when nothing else can.
function makeRoom(records: Map<string, IdempotencyRecord>, maxRecords: number, nowMs: number): void {
  if (records.size < maxRecords) return
  let unknownKey: string | undefined
  for (const [key, record] of records) {
    if (record.state === 'completed' || record.state === 'aborted' || isExpired(record, nowMs)) {
      records.delete(key)
      return
    }
    if (record.state === 'unknown') unknownKey ??= key
  }
  if (unknownKey !== undefined) records.delete(unknownKey)
}
