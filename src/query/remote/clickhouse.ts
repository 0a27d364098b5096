/**
 * Log lines of ClickHouse, by its HTTP interface (https://clickhouse.com/docs/interfaces/http), from the table that the
 * OpenTelemetry Collector's exporter makes.
 *
 *   clickhouse://user:password@host:8123/database?table=otel_logs
 */

import { ThroughlineError } from '../../errors.js'
import { asObject, type JsonObject, parseObject } from '../files/loose-json.js'
import type { FieldPath } from '../filter/ast.js'
import { compileForClickhouse } from '../filter/compile-clickhouse.js'
import { fieldsOf } from '../filter/fields.js'
import { type LogEntry, matcherOf } from '../filter/match.js'
import { attributesOf } from '../filter/otel-fields.js'
import { overlapOf, type TimeRange, timeRangeOf } from '../filter/time-range.js'
import type { FoundLine } from '../logs/log-line.js'
import type { RemoteLogs, RemoteQuery } from './contract.js'
import { asAskedFor, entryOf } from './otel-entry.js'
import { post, refused, type Server, serverOf } from './request.js'

const DEFAULT_TABLE = 'otel_logs'

const DEFAULT_PORTS = { 'http:': '8123', 'https:': '8443' } as const

/** Rows of the first page, and how many times more each further one has. A page is sorted as a whole by the server. */
const FIRST_PAGE_ROWS = 10_000
const PAGE_GROWTH = 10
const MAX_PAGE_ROWS = 1_000_000

/** Columns that are read. */
const COLUMNS = [
  'Timestamp',
  'TraceId',
  'SpanId',
  'TraceFlags',
  'SeverityText',
  'SeverityNumber',
  'ServiceName',
  'Body',
  'LogAttributes',
]

interface ClickhouseSource {
  server: Server
  database: string | undefined
  table: string
}

/** @throws {ThroughlineError} `SOURCE_INVALID` */
export function openClickhouse(address: URL, protocol: 'http:' | 'https:'): RemoteLogs {
  const server = serverOf('ClickHouse', withPort(address, DEFAULT_PORTS[protocol]), protocol)
  server.url.pathname = '/'
  const source: ClickhouseSource = {
    server,
    database: databaseOf(address),
    table: address.searchParams.get('table') || DEFAULT_TABLE,
  }
  return { name: `ClickHouse at ${server.url.host}`, find: (query) => find(source, query) }
}

function withPort(address: URL, port: string): URL {
  const url = new URL(address)
  if (url.port === '') url.port = port
  return url
}

function databaseOf({ pathname }: URL): string | undefined {
  try {
    return decodeURIComponent(pathname.slice(1)) || undefined
  } catch {
    throw new ThroughlineError('SOURCE_INVALID', 'The address of ClickHouse cannot be read.', {
      why: 'A % in the name of its database begins no character.',
      fix: 'Write a % as %25.',
    })
  }
}

async function* find(source: ClickhouseSource, query: RemoteQuery): AsyncGenerator<FoundLine> {
  const { filter, limit = Number.POSITIVE_INFINITY } = query
  if (limit <= 0) return
  const fields = filter === undefined ? [] : fieldsOf(filter)
  const matches = filter === undefined ? () => true : matcherOf(filter)
  let found = 0
  for await (const row of rowsOf(source, query)) {
    const { entry, asked } = readRow(row, fields)
    if (!matches(asked)) continue
    yield { text: JSON.stringify(entry), entry }
    found += 1
    if (found >= limit) return
  }
}

/** Pages by time, each with all the rows of its last nanosecond. */
async function* rowsOf(source: ClickhouseSource, query: RemoteQuery): AsyncGenerator<JsonObject> {
  const statement = statementOf(query, await columnsOf(source))
  for (let limit = FIRST_PAGE_ROWS, after: string | undefined; ; ) {
    let count = 0
    let last: unknown
    for await (const row of ask(source, pageOf(statement, query, limit, after))) {
      yield row
      count += 1
      last = row.ns
    }
    if (count < limit) return
    if (typeof last !== 'string') throw refused(source.server, 'rows without a time')
    after = last
    limit = Math.min(limit * PAGE_GROWTH, MAX_PAGE_ROWS)
  }
}

interface Statement {
  sql: string
  parameters: Readonly<Record<string, string>>
}

function statementOf({ filter, sinceMs, untilMs }: RemoteQuery, columns: ReadonlySet<string>): Statement {
  const asked = filter === undefined ? {} : timeRangeOf(filter)
  const condition = filter === undefined ? { sql: 'true', parameters: [] } : compileForClickhouse(filter)
  const range = rangeCondition(overlapOf(asked, { sinceMs, untilMs }), columns)
  const bound = condition.parameters.map((value, index) => [`p${index + 1}`, value] as const)
  return {
    sql: `
      SELECT toString(toUnixTimestamp64Nano(Timestamp)) AS ns, toString(toUnixTimestamp64Milli(Timestamp)) AS ms,
        TraceId, SpanId, TraceFlags, SeverityText, SeverityNumber, ServiceName, Body, LogAttributes
      FROM {table:Identifier}
      WHERE ${[...range.conditions, condition.sql].join(' AND ')}`,
    parameters: { ...range.parameters, ...Object.fromEntries(bound) },
  }
}

/** Milliseconds that a DateTime64(9) can say: the years 1900 to 2262. */
const MIN_MS = -2_208_988_800_000
const MAX_MS = 9_223_372_036_000

/** Seconds that a DateTime can say. */
const MAX_SECONDS = 4_294_967_295

function rangeCondition({ sinceMs, untilMs }: TimeRange, columns: ReadonlySet<string>) {
  const conditions: string[] = []
  const parameters: Record<string, string> = {}
  // The table is parted and sorted by these seconds, which ClickHouse does not know to be those of Timestamp.
  const hasSeconds = columns.has('TimestampTime')
  const add = (name: 'since' | 'until', comparison: '>=' | '<=', ms: number) => {
    const whole = Math.min(Math.max(Math.floor(ms), MIN_MS), MAX_MS)
    // Of the last millisecond, all its nanoseconds.
    const nano = name === 'since' ? '' : ' + INTERVAL 999999 NANOSECOND'
    conditions.push(`Timestamp ${comparison} fromUnixTimestamp64Milli({${name}:Int64})${nano}`)
    parameters[name] = String(whole)
    const seconds = Math.floor(whole / 1_000)
    if (!hasSeconds || seconds < 0 || seconds >= MAX_SECONDS) return
    conditions.push(`TimestampTime ${comparison} toDateTime({${name}Seconds:UInt32})`)
    parameters[`${name}Seconds`] = String(seconds)
  }
  if (sinceMs !== undefined) add('since', '>=', sinceMs)
  if (untilMs !== undefined) add('until', '<=', untilMs)
  return { conditions, parameters }
}

function pageOf(
  { sql, parameters }: Statement,
  { direction }: RemoteQuery,
  limit: number,
  after: string | undefined,
): Statement {
  const isForward = direction !== 'backward'
  const next = `AND Timestamp ${isForward ? '>' : '<'} fromUnixTimestamp64Nano({after:Int64})`
  return {
    sql: `${sql} ${after === undefined ? '' : next}
      ORDER BY Timestamp ${isForward ? 'ASC' : 'DESC'} LIMIT ${limit} WITH TIES`,
    parameters: after === undefined ? parameters : { ...parameters, after },
  }
}

/** The columns of the table. @throws {ThroughlineError} `SOURCE_REFUSED` when it is no table of log records */
async function columnsOf(source: ClickhouseSource): Promise<ReadonlySet<string>> {
  const columns = new Set<string>()
  for await (const { name } of ask(source, { sql: 'DESCRIBE TABLE {table:Identifier}', parameters: {} }))
    columns.add(String(name))
  const missing = COLUMNS.filter((column) => !columns.has(column))
  if (missing.length === 0) return columns
  throw new ThroughlineError('SOURCE_REFUSED', 'The table has no log records.', {
    why: `It lacks columns that the OpenTelemetry Collector’s exporter makes: ${missing.join(', ')}.`,
    fix: 'Name the right one in the address: clickhouse://…?table=otel_logs.',
  })
}

async function* ask(
  { server, database, table }: ClickhouseSource,
  statement: Statement,
): AsyncGenerator<JsonObject> {
  const url = new URL(server.url)
  url.searchParams.set('default_format', 'JSONEachRow')
  if (database !== undefined) url.searchParams.set('database', database)
  for (const [name, value] of Object.entries({ ...statement.parameters, table }))
    url.searchParams.set(`param_${name}`, escaped(value))
  const answer = await post(server, url, statement.sql)
  try {
    for await (const line of linesOf(answer.chunks())) {
      if (line.trim() === '') continue
      const row = parseObject(line)
      // What fails after the first rows is told among them, as text or as a row.
      if (row === undefined) throw refused(server, line)
      if (typeof row.exception === 'string' && row.ns === undefined) throw refused(server, row.exception)
      yield row
    }
  } finally {
    answer.close()
  }
}

/** A parameter is read as TSV is (https://clickhouse.com/docs/interfaces/http#tabs-in-url-parameters). */
function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\t', '\\t').replaceAll('\n', '\\n')
}

async function* linesOf(chunks: AsyncGenerator<string>): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of chunks) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    yield* lines
  }
  yield rest
}

function readRow(row: JsonObject, fields: readonly FieldPath[]): { entry: LogEntry; asked: LogEntry } {
  const text = (name: string) => String(row[name] ?? '')
  const attributes = new Map(
    Object.entries(asObject(row.LogAttributes) ?? {}).map(([name, value]) => [name, String(value)]),
  )
  const entry = entryOf({
    timeMs: Number(row.ms),
    severityNumber: Number(row.SeverityNumber),
    severityText: text('SeverityText'),
    body: text('Body'),
    service: text('ServiceName'),
    traceId: text('TraceId'),
    spanId: text('SpanId'),
    flags: Number(row.TraceFlags),
    attributes,
  })
  const storedValue = (field: FieldPath) =>
    [field.join('.'), ...attributesOf(field)]
      .map((name) => attributes.get(name))
      .find((value) => value !== undefined)
  return { entry, asked: asAskedFor(entry, fields, storedValue) }
}
