/** The spans and log lines of traces whose IDs are known, in bounded memory. */
import { readLogs, type StoredLog } from '../logs/log-files.js'
import { readSpans, type StoredSpan } from './span-files.js'
import { type InboundLink, inboundLinks } from './trace-links.js'

/** Bounds on memory; what lies beyond is left out, and `isTruncated` says so. */
export interface TraceLimits {
  /** Default 10 000. */
  maxSpans?: number
  /** Default 10 000. */
  maxLogs?: number
}

export const MAX_SPANS = 10_000
const MAX_LOGS = 10_000

/** Most traces with a link to these that are remembered. */
const MAX_LINKING = 10_000

interface Read {
  isTruncated: boolean
  /** Lines that have an ID but cannot be read: torn by a crash, or not JSON. */
  unreadableLines: number
}

export interface SpansOfTraces extends Read {
  /** Without repeats, by start time. */
  spans: StoredSpan[]
  /** From other traces, the earliest of each. They cost no pass of their own: their lines have the same IDs. */
  inbound: InboundLink[]
}

export async function spansOfTraces(
  directory: string,
  traceIds: ReadonlySet<string>,
  { maxSpans = MAX_SPANS }: TraceLimits = {},
): Promise<SpansOfTraces> {
  // A batch that is sent again after a time-out is written twice.
  const spans = new Map<string, StoredSpan>()
  const inbound = new Map<string, InboundLink>()
  const tally = { files: 0, unreadableLines: 0 }
  let isTruncated = false
  const lines = traceIds.size === 0 ? [] : readSpans(directory, { containing: [...traceIds], tally })
  for await (const span of lines) {
    if (!traceIds.has(span.traceId)) {
      for (const link of inboundLinks(span, traceIds)) noteEarliest(inbound, link)
    } else if (spans.size < maxSpans) spans.set(`${span.traceId}:${span.spanId}`, span)
    else {
      isTruncated = true
      break
    }
  }
  return {
    spans: [...spans.values()].sort((a, b) => a.startTimeMs - b.startTimeMs),
    inbound: [...inbound.values()],
    ...{ isTruncated, unreadableLines: tally.unreadableLines },
  }
}

export interface LogsOfTraces extends Read {
  /** By time. */
  logs: StoredLog[]
}

/** @param also other lines that belong to them: the texts they have one of, and what tells them */
export async function logsOfTraces(
  directory: string,
  traceIds: ReadonlySet<string>,
  { maxLogs = MAX_LOGS }: TraceLimits = {},
  also: { containing: readonly string[]; isOne(log: StoredLog): boolean } = {
    containing: [],
    isOne: () => false,
  },
): Promise<LogsOfTraces> {
  const logs: StoredLog[] = []
  const tally = { files: 0, unreadableLines: 0 }
  let isTruncated = false
  const containing = [...new Set([...also.containing, ...traceIds])]
  const lines = containing.length === 0 ? [] : readLogs(directory, { containing, tally })
  for await (const log of lines) {
    if (!(log.traceId !== undefined && traceIds.has(log.traceId)) && !also.isOne(log)) continue
    if (logs.length >= maxLogs) {
      isTruncated = true
      break
    }
    logs.push(log)
  }
  logs.sort((a, b) => (a.timeMs ?? 0) - (b.timeMs ?? 0))
  return { logs, isTruncated, unreadableLines: tally.unreadableLines }
}

function noteEarliest(inbound: Map<string, InboundLink>, link: InboundLink): void {
  const known = inbound.get(link.traceId)
  if (known === undefined ? inbound.size < MAX_LINKING : link.startTimeMs < known.startTimeMs)
    inbound.set(link.traceId, link)
}
