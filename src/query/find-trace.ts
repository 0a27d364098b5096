/**
 * All that is known about one ID: the spans of its traces and its log lines.
 *
 * Two passes over the files. The first keeps IDs only: which whole ID is meant, and which traces have it. The
 * second keeps the spans of those traces (a span without the correlation ID belongs to its trace too) and
 * the log lines. Both parse only lines that have one of the IDs, so a look-up costs about what grep does.
 */
import { ATTRIBUTE } from '../telemetry/names.js'
import { readLogs, type StoredLog } from './log-files.js'
import type { ReadTally } from './ndjson-files.js'
import { readSpans, type StoredSpan } from './span-files.js'

/** From this many characters on, the beginning of an ID is enough, if no other ID begins so. */
export const MIN_PREFIX_LENGTH = 6

/** Most traces of one correlation ID that are looked up. */
const MAX_TRACES = 100

/** Most IDs with the same beginning that are told. */
const MAX_CANDIDATES = 10

/** Bounds on memory; what lies beyond is left out, and `isTruncated` says so. */
export interface FindTraceLimits {
  /** Default 10 000. */
  maxSpans?: number
  /** Default 10 000. */
  maxLogs?: number
}

/** What was found for an ID. */
export interface FoundTrace {
  kind: 'found'
  /** The whole ID, when a beginning was asked for. */
  id: string
  /** Without repeats, by start time. */
  spans: StoredSpan[]
  /** By time. */
  logs: StoredLog[]
  traceIds: string[]
  correlationIds: string[]
  /** True when there is more than the limits allow. */
  isTruncated: boolean
  /** Lines that have the ID but cannot be read: torn by a crash, or not JSON. */
  unreadableLines: number
}

/** Why there is no one answer. */
export type NotFound =
  | { kind: 'nothing'; spanFiles: number; logFiles: number; unreadableLines: number }
  /** Several IDs begin like this; at most ten are named. */
  | { kind: 'ambiguous'; candidates: string[] }

/**
 * @param directory as `localDirectory` names it
 * @param id a correlation ID, a trace ID, or the beginning of either, of at least 6 characters
 * @throws {ThroughlineError} `FILES_UNREADABLE` when files are there but may not be read.
 */
export async function findTrace(
  directory: string,
  id: string,
  limits: FindTraceLimits = {},
): Promise<FoundTrace | NotFound> {
  const mentions = await findMentions(directory, id)
  const wholeIds = [...mentions.tracesOfId.keys()]
  const wholeId = wholeIds.find((known) => isSameId(known, id)) ?? wholeIds[0]
  if (wholeId === undefined) {
    const { spanFiles, logFiles } = mentions
    const unreadableLines = spanFiles.unreadableLines + logFiles.unreadableLines
    return { kind: 'nothing', spanFiles: spanFiles.files, logFiles: logFiles.files, unreadableLines }
  }
  if (!isSameId(wholeId, id) && wholeIds.length > 1) return { kind: 'ambiguous', candidates: wholeIds.sort() }

  const allTraceIds = mentions.tracesOfId.get(wholeId) ?? new Set()
  const traceIds = new Set([...allTraceIds].slice(0, MAX_TRACES))
  const spans = await collectSpans(directory, traceIds, limits.maxSpans ?? 10_000)
  const logs = await collectLogs(directory, wholeId, traceIds, limits.maxLogs ?? 10_000)
  const correlationIds = new Set(spans.found.map(correlationIdOf))
  for (const log of logs.found) correlationIds.add(log.correlationId)
  return {
    kind: 'found',
    id: wholeId,
    spans: spans.found.sort((a, b) => a.startTimeMs - b.startTimeMs),
    logs: logs.found.sort((a, b) => (a.timeMs ?? 0) - (b.timeMs ?? 0)),
    traceIds: [...traceIds],
    correlationIds: [...correlationIds].filter((known) => known !== undefined),
    isTruncated: spans.isTruncated || logs.isTruncated || allTraceIds.size > traceIds.size,
    unreadableLines: spans.unreadableLines + logs.unreadableLines,
  }
}

interface Mentions {
  /** Whole IDs that are the one asked for, or begin like it, each with its traces. */
  tracesOfId: Map<string, Set<string>>
  spanFiles: ReadTally
  logFiles: ReadTally
}

async function findMentions(directory: string, id: string): Promise<Mentions> {
  const spanFiles: ReadTally = { files: 0, unreadableLines: 0 }
  const logFiles: ReadTally = { files: 0, unreadableLines: 0 }
  const tracesOfId = new Map<string, Set<string>>()
  const note = (known: string | undefined, traceId: string | undefined) => {
    if (known === undefined || !isAskedFor(known, id)) return
    if (tracesOfId.size >= MAX_CANDIDATES && !tracesOfId.has(known) && !isSameId(known, id)) return
    const traces = tracesOfId.get(known) ?? new Set()
    tracesOfId.set(known, traces)
    if (traceId !== undefined && traces.size <= MAX_TRACES) traces.add(traceId)
  }
  const containing = [...new Set([id, id.toLowerCase()])]
  for await (const span of readSpans(directory, { containing, tally: spanFiles })) {
    note(span.traceId, span.traceId)
    note(correlationIdOf(span), span.traceId)
  }
  for await (const log of readLogs(directory, { containing, tally: logFiles })) {
    note(log.traceId, log.traceId)
    note(log.correlationId, log.traceId)
  }
  return { tracesOfId, spanFiles, logFiles }
}

function isAskedFor(known: string, id: string): boolean {
  if (isSameId(known, id)) return true
  return id.length >= MIN_PREFIX_LENGTH && (known.startsWith(id) || known.startsWith(id.toLowerCase()))
}

// Trace IDs are kept in lower case; correlation IDs are as their caller wrote them.
function isSameId(known: string, id: string): boolean {
  return known === id || (/^[0-9a-f]{32}$/.test(known) && known === id.toLowerCase())
}

interface Collected<T> {
  found: T[]
  isTruncated: boolean
  unreadableLines: number
}

async function collectSpans(
  directory: string,
  traceIds: ReadonlySet<string>,
  maxSpans: number,
): Promise<Collected<StoredSpan>> {
  // A batch that is sent again after a time-out is written twice.
  const spans = new Map<string, StoredSpan>()
  const tally = { files: 0, unreadableLines: 0 }
  const collected = () => ({ found: [...spans.values()], unreadableLines: tally.unreadableLines })
  if (traceIds.size === 0) return { ...collected(), isTruncated: false }
  for await (const span of readSpans(directory, { containing: [...traceIds], tally })) {
    if (!traceIds.has(span.traceId)) continue
    if (spans.size >= maxSpans) return { ...collected(), isTruncated: true }
    spans.set(`${span.traceId}:${span.spanId}`, span)
  }
  return { ...collected(), isTruncated: false }
}

async function collectLogs(
  directory: string,
  id: string,
  traceIds: ReadonlySet<string>,
  maxLogs: number,
): Promise<Collected<StoredLog>> {
  const found: StoredLog[] = []
  const tally = { files: 0, unreadableLines: 0 }
  for await (const log of readLogs(directory, { containing: [...new Set([id, ...traceIds])], tally })) {
    if (log.correlationId !== id && !(log.traceId !== undefined && traceIds.has(log.traceId))) continue
    if (found.length >= maxLogs) return { found, unreadableLines: tally.unreadableLines, isTruncated: true }
    found.push(log)
  }
  return { found, unreadableLines: tally.unreadableLines, isTruncated: false }
}

function correlationIdOf(span: StoredSpan): string | undefined {
  const value = span.attributes[ATTRIBUTE.correlationId]
  return typeof value === 'string' && value !== '' ? value : undefined
}
