/**
 * All that is known about one ID: the spans of its traces and its log lines.
 *
 * Two passes over the files. The first keeps IDs only: which whole ID is meant, and which traces have it. The
 * second keeps the spans of those traces (a span without the correlation ID belongs to its trace too) and
 * the log lines. Both parse only lines that have one of the IDs, so a look-up costs about what grep does.
 */

import type { StoredLog } from '../logs/log-files.js'
import { type AskedId, correlationIdOf, type FoundBy, findMentions, idOfLog, MAX_TRACES } from './asked-id.js'
import type { StoredSpan } from './span-files.js'
import { type LinkedTraceId, neighboursOf } from './trace-links.js'
import { logsOfTraces, spansOfTraces, type TraceLimits } from './traces-by-id.js'

/** What was found for an ID. */
export interface FoundTrace {
  kind: 'found'
  /** The whole ID, when a beginning was asked for. */
  id: string
  foundBy: FoundBy
  /** Without repeats, by start time. */
  spans: StoredSpan[]
  /** By time. */
  logs: StoredLog[]
  /** By start time. */
  traceIds: string[]
  correlationIds: string[]
  /** Other traces, one step away by a link. They may not be in the files. */
  links: LinkedTraceId[]
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
 * @param id a correlation ID, a trace ID, or the beginning of either, of at least 6 characters; an error's digest;
 *   the hash of an idempotency key
 * @throws {ThroughlineError} `FILES_UNREADABLE` when files are there but may not be read.
 */
export async function findTrace(
  directory: string,
  id: string,
  limits: TraceLimits = {},
): Promise<FoundTrace | NotFound> {
  const { asked, candidates, spanFiles, logFiles } = await findMentions(directory, id)
  if (asked !== undefined) return readTraces(directory, asked, limits)
  if (candidates.length > 0) return { kind: 'ambiguous', candidates }
  const unreadableLines = spanFiles.unreadableLines + logFiles.unreadableLines
  return { kind: 'nothing', spanFiles: spanFiles.files, logFiles: logFiles.files, unreadableLines }
}

async function readTraces(
  directory: string,
  { id, foundBy, traceIds: all }: AskedId,
  limits: TraceLimits,
): Promise<FoundTrace> {
  const traceIds = new Set([...all].slice(0, MAX_TRACES))
  const { spans, inbound, ...read } = await spansOfTraces(directory, traceIds, limits)
  // Lines of the ID that name no trace, or one that was not sampled.
  const also = { containing: [id], isOne: (log: StoredLog) => idOfLog(log, foundBy) === id }
  const { logs, ...readOfLogs } = await logsOfTraces(directory, traceIds, limits, also)
  const correlationIds = [...spans.map(correlationIdOf), ...logs.map((log) => log.correlationId)]
  return {
    ...{ kind: 'found', id, foundBy, spans, logs },
    traceIds: [...new Set([...spans.map((span) => span.traceId), ...traceIds])],
    correlationIds: [...new Set(correlationIds)].filter((known) => known !== undefined),
    links: neighboursOf(spans, inbound).filter(({ traceId }) => !traceIds.has(traceId)),
    isTruncated: read.isTruncated || readOfLogs.isTruncated || all.size > traceIds.size,
    unreadableLines: read.unreadableLines + readOfLogs.unreadableLines,
  }
}
