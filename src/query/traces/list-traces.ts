/** The traces in the span files, each summed up, in bounded memory. */

import type { ReadTally } from '../files/ndjson-files.js'
import type { Filter } from '../filter/ast.js'
import { matcherOf } from '../filter/match.js'
import { kept } from './kept-text.js'
import { RecentSpans } from './recent-spans.js'
import { readSpans, type StoredSpan } from './span-files.js'
import { traceEntry } from './trace-entry.js'
import { summaryOf, type TraceFacts, type TraceSummary, withSpan } from './trace-summary.js'

export interface TraceQuery {
  /** Asked of each trace's entry (`trace-entry.ts`). Default: every trace. */
  filter?: Filter | undefined
  /** Only traces that this service has a span in. */
  service?: string | undefined
  /** `time`: newest first; `duration`: longest first. */
  sort: 'time' | 'duration'
  /** Most traces in the list. */
  limit: number
  /** Most traces that are kept while reading; the oldest are let go. Default 100 000, about 100 MB. */
  maxTraces?: number
}

interface ReadSoFar {
  /** Traces that were let go, at least so many. */
  leftOut: number
  /** Lines that cannot be read: torn by a crash, or not JSON. */
  unreadableLines: number
}

export interface FoundTraces extends ReadSoFar {
  kind: 'found'
  traces: TraceSummary[]
  /** How many there are without `limit`. */
  total: number
}

/** Why the list is empty. */
export interface NoTraces extends ReadSoFar {
  kind: 'nothing'
  spanFiles: number
  /** Traces that are there, but do not match. */
  unmatched: number
  /** Of these; at most ten each. */
  actions: string[]
  routes: string[]
  services: string[]
}

/** Twice as many as the files that we write ourselves hold, at ten spans a trace. */
const MAX_TRACES = 100_000

const MAX_NAMES = 10

/**
 * @param directory as `localDirectory` names it
 * @throws {ThroughlineError} `FILES_UNREADABLE` when files are there but may not be read.
 */
export async function listTraces(directory: string, query: TraceQuery): Promise<FoundTraces | NoTraces> {
  const tally: ReadTally = { files: 0, unreadableLines: 0 }
  const newest = new NewestTraces(query.maxTraces ?? MAX_TRACES)
  const recent = new RecentSpans()
  for await (const span of readSpans(directory, { tally })) {
    if (recent.isNew(span)) newest.add(span)
  }
  const all = newest.all()
  const matches = query.filter === undefined ? undefined : matcherOf(query.filter)
  const { service } = query
  const found = all
    .filter(({ services }) => service === undefined || services.includes(service))
    .filter((facts) => matches === undefined || matches(traceEntry(summaryOf(facts))))
  const read = { leftOut: newest.leftOut, unreadableLines: tally.unreadableLines }
  if (found.length === 0) return { kind: 'nothing', ...read, spanFiles: tally.files, ...namesIn(all) }
  const traces = found.sort(query.sort === 'time' ? newestFirst : longestFirst).slice(0, query.limit)
  return { kind: 'found', traces: traces.map(summaryOf), total: found.length, ...read }
}

/**
 * The traces that started last. When a quarter more than fit are there, the oldest go at once: one sort for many
 * traces. A late span of one that went is known by its start.
 */
class NewestTraces {
  readonly #max: number
  readonly #traces = new Map<string, TraceFacts>()
  #goneUntilMs = Number.NEGATIVE_INFINITY
  leftOut = 0

  constructor(max: number) {
    this.#max = max
  }

  add(span: StoredSpan): void {
    const known = this.#traces.get(kept(span.traceId))
    if (known === undefined && span.startTimeMs <= this.#goneUntilMs) return
    const facts = withSpan(known, span)
    if (known !== undefined) return
    this.#traces.set(facts.traceId, facts)
    if (this.#traces.size > this.#max * 1.25) this.#letGo()
  }

  all(): TraceFacts[] {
    if (this.#traces.size > this.#max) this.#letGo()
    return [...this.#traces.values()]
  }

  #letGo(): void {
    const byStart = [...this.#traces.values()].sort((a, b) => b.startTimeMs - a.startTimeMs)
    for (const { traceId, startTimeMs } of byStart.slice(this.#max)) {
      this.#traces.delete(traceId)
      this.#goneUntilMs = Math.max(this.#goneUntilMs, startTimeMs)
      this.leftOut += 1
    }
  }
}

function newestFirst(a: TraceFacts, b: TraceFacts): number {
  return b.startTimeMs - a.startTimeMs
}

function longestFirst(a: TraceFacts, b: TraceFacts): number {
  return b.endTimeMs - b.startTimeMs - (a.endTimeMs - a.startTimeMs) || newestFirst(a, b)
}

function namesIn(traces: readonly TraceFacts[]): Omit<NoTraces, 'kind' | 'spanFiles' | keyof ReadSoFar> {
  const [actions, routes, services] = [new Set<string>(), new Set<string>(), new Set<string>()]
  for (const facts of traces) {
    const { action, route } = summaryOf(facts)
    if (action !== undefined) actions.add(action)
    if (route !== undefined) routes.add(route)
    for (const service of facts.services) services.add(service)
  }
  const listed = (names: Set<string>) => [...names].sort().slice(0, MAX_NAMES)
  return {
    ...{ unmatched: traces.length, actions: listed(actions) },
    ...{ routes: listed(routes), services: listed(services) },
  }
}
