/**
 * Log lines of Grafana Loki, by its HTTP interface (https://grafana.com/docs/loki/latest/reference/loki-http-api/).
 *
 *   loki+http://user:password@host:3100?format=otlp&selector={service_name="shop"}&tenant=team-a
 */

import { ThroughlineError } from '../../errors.js'
import { asObject, objectsOf, parseObject } from '../files/loose-json.js'
import type { FieldPath } from '../filter/ast.js'
import { attributeOfLabel, compileLogql, type LokiFormat, OTHER_LABELS } from '../filter/compile-logql.js'
import { fieldsOf } from '../filter/fields.js'
import { type LogEntry, matcherOf } from '../filter/match.js'
import { overlapOf, timeRangeOf } from '../filter/time-range.js'
import type { FoundLine } from '../logs/log-line.js'
import type { RemoteLogs, RemoteQuery } from './contract.js'
import { asAskedFor, entryOf } from './otel-entry.js'
import { post, refused, type Server, serverOf } from './request.js'

/** Since Loki 3, every stream has a `service_name`. */
const DEFAULT_SELECTOR = '{service_name=~".+"}'

/** Loki must be given a range; its own default is an hour. */
const DEFAULT_SPAN_MS = 3_600_000

/** Pages grow: often few lines are wanted. */
const FIRST_PAGE_LINES = 500

/** Loki refuses more for one request, unless it is set up to allow it. */
const MAX_PAGE_LINES = 5_000

/** A line's own time and the time that Loki has for it differ by less than that. */
const CLOCK_SLACK_MS = 300_000

/** Loki's own rule (https://grafana.com/docs/loki/latest/operations/multi-tenancy/). */
const TENANT = /^[A-Za-z0-9!\-_.*'()|]{1,150}$/

interface LokiSource {
  server: Server
  selector: string
  format: LokiFormat
  headers: Readonly<Record<string, string>>
}

/** @throws {ThroughlineError} `SOURCE_INVALID` */
export function openLoki(address: URL, protocol: 'http:' | 'https:'): RemoteLogs {
  const { searchParams } = address
  const format = searchParams.get('format') ?? 'json'
  const selector = searchParams.get('selector') ?? DEFAULT_SELECTOR
  const tenant = searchParams.get('tenant')
  if (format !== 'json' && format !== 'otlp') throw invalid('format', 'json or otlp')
  if (!/^\s*\{.*\}\s*$/s.test(selector)) throw invalid('selector', 'a stream selector: {service_name="shop"}')
  if (tenant !== null && !TENANT.test(tenant)) throw invalid('tenant', 'the name of a tenant')
  const source: LokiSource = {
    server: serverOf('Loki', address, protocol),
    selector,
    format,
    headers: {
      // Else structured metadata and the labels of the stream come as one.
      'x-loki-response-encoding-flags': 'categorize-labels',
      ...(tenant !== null && { 'x-scope-orgid': tenant }),
    },
  }
  return {
    name: `Loki at ${source.server.url.host}`,
    defaultSpanMs: DEFAULT_SPAN_MS,
    find: (query) => find(source, query),
  }
}

function invalid(parameter: string, wanted: string): ThroughlineError {
  return new ThroughlineError('SOURCE_INVALID', 'The address of Loki is none that can be asked.', {
    why: `Its parameter ${parameter} is not ${wanted}.`,
    fix: 'Mend it; what is no letter or digit is percent-encoded.',
  })
}

async function* find(source: LokiSource, query: RemoteQuery): AsyncGenerator<FoundLine> {
  const { filter, limit = Number.POSITIVE_INFINITY } = query
  const readLine = source.format === 'json' ? jsonLine : otlpLine
  const fields = filter === undefined ? [] : fieldsOf(filter)
  const matches = filter === undefined ? () => true : matcherOf(filter)
  let found = 0
  if (limit <= 0) return
  for await (const line of linesOf(source, query)) {
    const read = readLine(line, fields)
    if (read === undefined || !matches(read.asked)) continue
    yield { text: read.text, entry: read.entry }
    found += 1
    if (found >= limit) return
  }
}

/** Nanoseconds: `to` is the first that is not within. */
interface NanoRange {
  from: bigint
  to: bigint
}

interface StoredLine {
  ns: bigint
  text: string
  /** Of the stream. */
  labels: Readonly<Record<string, unknown>>
  /** Structured metadata. */
  metadata: Readonly<Record<string, unknown>>
  /** Two lines of one time with one of these are the same line. */
  identity: string
}

/**
 * Pages by time. The end of a page may be within lines of one nanosecond: the next page begins with that nanosecond,
 * and the lines of it that have been seen are left out.
 */
async function* linesOf(source: LokiSource, query: RemoteQuery): AsyncGenerator<StoredLine> {
  const isForward = query.direction !== 'backward'
  const logql = `${source.selector}${query.filter === undefined ? '' : compileLogql(query.filter, source.format)}`
  const pages: PageState = { lines: FIRST_PAGE_LINES, most: MAX_PAGE_LINES }
  let range = rangeOf(query, source.format)
  let seen = new Map<string, number>()
  let seenNs: bigint | undefined
  while (range.from < range.to) {
    const page = await readPage(source, logql, range, isForward, pages)
    const before = new Map(seen)
    for (const line of page) if (!takeOne(before, line.identity)) yield line
    const last = page.at(-1)
    if (last === undefined || page.length < pages.lines) return
    if (page[0]?.ns === last.ns && pages.lines === pages.most) throw tooManyAtOnce(source.server, last.ns)
    pages.lines = Math.min(pages.most, pages.lines * 4)
    // Which of a nanosecond's lines a page has is up to Loki: those of earlier pages may not be among them.
    if (seenNs !== last.ns) seen = new Map()
    seenNs = last.ns
    for (const [identity, count] of countsOf(page.filter((line) => line.ns === last.ns)))
      seen.set(identity, Math.max(count, seen.get(identity) ?? 0))
    range = isForward ? { from: last.ns, to: range.to } : { from: range.from, to: last.ns + 1n }
  }
}

interface PageState {
  lines: number
  /** What the server allows. */
  most: number
}

function takeOne(counts: Map<string, number>, identity: string): boolean {
  const count = counts.get(identity) ?? 0
  if (count > 0) counts.set(identity, count - 1)
  return count > 0
}

function countsOf(lines: readonly StoredLine[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { identity } of lines) counts.set(identity, (counts.get(identity) ?? 0) + 1)
  return counts
}

function tooManyAtOnce(server: Server, ns: bigint): ThroughlineError {
  return new ThroughlineError('SOURCE_REFUSED', `${server.name} at ${server.url.host} cannot be read on.`, {
    why: `It has more lines of one nanosecond (${ns}) than it gives in one answer.`,
    fix: 'Ask for less with the filter or the selector, or raise max_entries_limit_per_query in Loki.',
  })
}

function rangeOf(query: RemoteQuery, format: LokiFormat): NanoRange {
  const asked = query.filter === undefined ? {} : timeRangeOf(query.filter)
  const slack = format === 'json' ? CLOCK_SLACK_MS : 0
  const widened = {
    sinceMs: asked.sinceMs === undefined ? undefined : asked.sinceMs - slack,
    untilMs: asked.untilMs === undefined ? undefined : asked.untilMs + slack,
  }
  const { sinceMs, untilMs = Date.now() } = overlapOf(widened, query)
  // A line's time is in whole milliseconds: those of the last one are within.
  return {
    from: nanoseconds(Math.floor(sinceMs ?? untilMs - DEFAULT_SPAN_MS)),
    to: nanoseconds(Math.floor(untilMs) + 1),
  }
}

/** What nanoseconds in 64 bits can say. */
const MAX_MS = 9_223_372_036_854

function nanoseconds(ms: number): bigint {
  return BigInt(Math.min(Math.max(ms, 0), MAX_MS)) * 1_000_000n
}

async function readPage(
  source: LokiSource,
  logql: string,
  range: NanoRange,
  isForward: boolean,
  pages: PageState,
): Promise<StoredLine[]> {
  const { server } = source
  const url = new URL(`${server.url.pathname.replace(/\/$/, '')}/loki/api/v1/query_range`, server.url)
  const body = new URLSearchParams({
    query: logql,
    start: String(range.from),
    end: String(range.to),
    limit: String(pages.lines),
    direction: isForward ? 'forward' : 'backward',
  })
  let text = ''
  try {
    const answer = await post(server, url, body, source.headers)
    for await (const chunk of answer.chunks()) text += chunk
  } catch (error) {
    // Set up to give fewer lines than by default.
    const most = Number(/max_entries_limit\w* \(\d+ > (\d+)\)/.exec((error as Error).message)?.[1])
    if (!(most >= 1 && most < pages.lines)) throw error
    pages.most = most
    pages.lines = most
    return readPage(source, logql, range, isForward, pages)
  }
  const data = asObject(parseObject(text)?.data)
  if (data?.resultType !== 'streams') throw refused(server, `an answer that is none of Loki's: ${text}`)
  const lines = objectsOf(data.result).flatMap((stream) =>
    streamLines(asObject(stream.stream) ?? {}, stream.values),
  )
  // Loki gives stream after stream.
  return lines.sort((a, b) => (a.ns === b.ns ? 0 : a.ns < b.ns === isForward ? -1 : 1))
}

function streamLines(labels: Readonly<Record<string, unknown>>, values: unknown): StoredLine[] {
  if (!Array.isArray(values)) return []
  const stream = JSON.stringify(labels)
  return values.flatMap((value: unknown) => {
    const [ns, text, categories] = Array.isArray(value) ? value : []
    if (typeof ns !== 'string' || !/^\d+$/.test(ns) || typeof text !== 'string') return []
    const metadata = asObject(asObject(categories)?.structuredMetadata) ?? {}
    const identity = `${ns} ${stream} ${JSON.stringify(metadata)} ${text}`
    return [{ ns: BigInt(ns), text, labels, metadata, identity }]
  })
}

interface ReadLine {
  text: string
  entry: LogEntry
  /** With the names that the filter has. */
  asked: LogEntry
}

function jsonLine({ text }: StoredLine): ReadLine | undefined {
  const entry = parseObject(text)
  return entry === undefined ? undefined : { text, entry, asked: entry }
}

function otlpLine({ ns, text, labels, metadata }: StoredLine, fields: readonly FieldPath[]): ReadLine {
  const all = { ...labels, ...metadata }
  const texts = new Map(
    Object.entries(all).filter(([, value]) => typeof value === 'string') as [string, string][],
  )
  const entry = entryOf({
    timeMs: Number(ns / 1_000_000n),
    severityNumber: Number(texts.get('severity_number') ?? 0),
    severityText: texts.get('severity_text') ?? '',
    body: text,
    service: texts.get('service_name') ?? '',
    traceId: texts.get('trace_id') ?? '',
    spanId: texts.get('span_id') ?? '',
    flags: Number(texts.get('flags') ?? 0),
    attributes: [...texts].flatMap(([label, value]) =>
      OTHER_LABELS.has(label) ? [] : [[attributeOfLabel(label), value] as const],
    ),
  })
  const asked = asAskedFor(entry, fields, (field) => texts.get(labelOf(field)))
  return { text: JSON.stringify(entry), entry, asked }
}

function labelOf(field: FieldPath): string {
  return field.join('.').replaceAll('.', '_')
}
