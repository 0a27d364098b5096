/** Idempotency keys as span files know them: which were used again, and each use of one. */
import { ATTRIBUTE } from '../../telemetry/names.js'
import { type KeyUse, readKeyUses } from './key-uses.js'

/** From this many characters on, the beginning of a key's hash is enough, if no other begins so. */
export const MIN_HASH_PREFIX_LENGTH = 4

/** Most hashes with the same beginning that are told. */
const MAX_CANDIDATES = 10

/** A key, and its uses summed up. */
export interface KeySummary {
  keyHash: string
  /** Of the last use. */
  action: string
  /** How often it was used again. */
  hits: number
  /** Epoch milliseconds. */
  firstUseMs: number
  /** False when nothing tells of the first use: it was before `firstUseMs`. */
  isFirstUseKnown: boolean
  /** Epoch milliseconds. */
  lastUseMs: number
  /** Uses in the files, by outcome. */
  outcomes: { [outcome: string]: number }
  isSuspect: boolean
}

export interface KeyListOptions {
  /** Keys used once too. Default false. */
  all?: boolean | undefined
  /** Only keys that this action used. */
  action?: string | undefined
  /** Most keys in the list. */
  limit: number
}

interface ReadSoFar {
  /** True when there are more uses than are kept in memory: the earliest are left out. */
  isTruncated: boolean
  /** Lines that cannot be read: torn by a crash, or not JSON. */
  unreadableLines: number
}

/** Keys, the one used last first. */
export interface FoundKeys extends ReadSoFar {
  kind: 'found'
  keys: KeySummary[]
  /** How many there are without `limit`. */
  total: number
}

/** Why the list is empty. */
export interface NoKeys {
  kind: 'nothing'
  spanFiles: number
  unreadableLines: number
  /** Keys that were used once only, of the action asked for. */
  usedOnce: number
  /** Actions that do have keys in the list; at most ten. */
  actions: string[]
}

/** One key and its uses, the oldest first. */
export interface FoundKey extends ReadSoFar {
  kind: 'found'
  key: KeySummary
  uses: KeyUse[]
  /** First uses of other keys with a payload that had come under this one; not in its counts. */
  suspects: KeyUse[]
}

export type NoKey =
  | { kind: 'nothing'; spanFiles: number; unreadableLines: number }
  /** Several hashes begin like this; at most ten are named. */
  | { kind: 'ambiguous'; candidates: string[] }

/**
 * @param directory as `localDirectory` names it
 * @throws {ThroughlineError} `FILES_UNREADABLE` when files are there but may not be read.
 */
export async function listKeys(
  directory: string,
  { all = false, action, limit }: KeyListOptions,
): Promise<FoundKeys | NoKeys> {
  const { uses, tally, isTruncated } = await readKeyUses(directory, ATTRIBUTE.idempotencyKeyHash)
  const timelines = [...timelinesOf(uses).values()]
  const ofAction = timelines.filter(
    (timeline) => action === undefined || timeline.some((use) => use.action === action),
  )
  const listed = ofAction.filter((timeline) => all || isUsedAgain(timeline)).map(summaryOf)
  const { files: spanFiles, unreadableLines } = tally
  if (listed.length === 0) {
    const actions = timelines.filter((timeline) => all || isUsedAgain(timeline)).map(summaryOf)
    const names = [...new Set(actions.map((key) => key.action))].sort().slice(0, MAX_CANDIDATES)
    return { kind: 'nothing', spanFiles, unreadableLines, usedOnce: ofAction.length, actions: names }
  }
  const keys = listed.sort((a, b) => b.lastUseMs - a.lastUseMs).slice(0, limit)
  return { kind: 'found', keys, total: listed.length, isTruncated, unreadableLines }
}

/**
 * @param hash 16 hex digits, or the first 4 or more of them
 * @throws {ThroughlineError} `FILES_UNREADABLE` when files are there but may not be read.
 */
export async function findKey(directory: string, hash: string): Promise<FoundKey | NoKey> {
  const { uses, tally, isTruncated } = await readKeyUses(directory, hash)
  const { files: spanFiles, unreadableLines } = tally
  const timelines = timelinesOf(uses.filter((use) => use.keyHash.startsWith(hash)))
  const [timeline, ...others] = timelines.values()
  if (timeline === undefined) return { kind: 'nothing', spanFiles, unreadableLines }
  if (others.length > 0) {
    return { kind: 'ambiguous', candidates: [...timelines.keys()].sort().slice(0, MAX_CANDIDATES) }
  }
  const key = summaryOf(timeline)
  // Read already: the line of a suspect names this key.
  const suspects = uses
    .filter((use) => use.suspectKeyHash === key.keyHash)
    .sort((a, b) => a.timeMs - b.timeMs)
  return { kind: 'found', key, uses: timeline, suspects, isTruncated, unreadableLines }
}

/** A key's uses, the oldest first; never empty. */
type Timeline = [KeyUse, ...KeyUse[]]

function timelinesOf(uses: readonly KeyUse[]): Map<string, Timeline> {
  const timelines = new Map<string, Timeline>()
  for (const use of uses) {
    const timeline = timelines.get(use.keyHash)
    if (timeline === undefined) timelines.set(use.keyHash, [use])
    else timeline.push(use)
  }
  for (const timeline of timelines.values()) {
    timeline.push(...firstUsesToldLater(timeline))
    timeline.sort((a, b) => a.timeMs - b.timeMs)
  }
  return timelines
}

/**
 * First uses whose spans are gone (files rotate), were sampled out, or say nothing of the key (a `set` of the
 * hand-written recipe). A key that was used again after its retention has several.
 */
function firstUsesToldLater(timeline: readonly KeyUse[]): KeyUse[] {
  const known = new Set(timeline.filter((use) => !use.isHit).map((use) => use.traceId))
  const told = new Map<string | undefined, KeyUse>()
  for (const { keyHash, action, timeMs, ageMs, originTraceId, isHit } of timeline) {
    if (!isHit || ageMs === undefined || known.has(originTraceId)) continue
    // Untraced, it cannot be told from one that is in the files.
    if (originTraceId === undefined && known.size > 0) continue
    told.set(originTraceId, {
      ...{ keyHash, action, timeMs: timeMs - ageMs, isHit: false, isSuspect: false, isToldLater: true },
      ...(originTraceId === undefined ? {} : { traceId: originTraceId }),
    })
  }
  return [...told.values()]
}

function isUsedAgain(timeline: Timeline): boolean {
  return timeline.length > 1 || timeline[0].isHit
}

function summaryOf(timeline: Timeline): KeySummary {
  const [first] = timeline
  const last = timeline[timeline.length - 1] ?? first
  const counts = new Map<string, number>()
  for (const { outcome } of timeline) {
    if (outcome !== undefined) counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  }
  return {
    keyHash: first.keyHash,
    action: last.action,
    // The store counts uses that no file has; a use that was turned away may not be in its count.
    hits: timeline.reduce(
      (hits, use) => Math.max(hits, use.hits ?? 0),
      timeline.filter((use) => use.isHit).length,
    ),
    firstUseMs: first.timeMs,
    isFirstUseKnown: !first.isHit,
    lastUseMs: last.timeMs,
    outcomes: Object.fromEntries(counts),
    isSuspect: timeline.some((use) => use.isSuspect),
  }
}
