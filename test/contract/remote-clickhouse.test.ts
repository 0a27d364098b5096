/** Logs in a real ClickHouse are found as they are in a file. */

import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Filter } from '../../src/query/filter/ast.ts'
import { type LogEntry, matcherOf } from '../../src/query/filter/match.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { printFilter } from '../../src/query/filter/print.ts'
import type { RemoteQuery } from '../../src/query/remote/contract.ts'
import { openRemote } from '../../src/query/remote/index.ts'
import { startClickhouse } from '../support/clickhouse.ts'
import { freePort } from '../support/free-port.ts'
import { filtersOfRecords, otelRecords, type TestRecord } from './otel-records.ts'

const server = await startClickhouse()
afterAll(async () => server?.stop())
const RECORDS = otelRecords()

const TABLE = (name: string) => `
  CREATE TABLE ${name} (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TimestampTime DateTime DEFAULT toDateTime(Timestamp),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    TraceFlags UInt8,
    SeverityText LowCardinality(String) CODEC(ZSTD(1)),
    SeverityNumber UInt8,
    ServiceName LowCardinality(String) CODEC(ZSTD(1)),
    Body String CODEC(ZSTD(1)),
    ResourceSchemaUrl LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeSchemaUrl LowCardinality(String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion LowCardinality(String) CODEC(ZSTD(1)),
    ScopeAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    LogAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_log_attr_key mapKeys(LogAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8
  ) ENGINE = MergeTree
  PARTITION BY toDate(TimestampTime)
  PRIMARY KEY (ServiceName, TimestampTime)
  ORDER BY (ServiceName, TimestampTime, Timestamp)`

function rowOf(record: TestRecord): string {
  return JSON.stringify({
    Timestamp: `${record.ns / 1_000_000_000n}.${String(record.ns % 1_000_000_000n).padStart(9, '0')}`,
    TraceId: record.traceId,
    SpanId: record.spanId,
    TraceFlags: record.flags,
    SeverityText: record.severityText,
    SeverityNumber: record.severityNumber,
    ServiceName: record.service,
    Body: record.body,
    LogAttributes: record.attributes,
  })
}

const url = (path = '') => `${server?.url ?? ''}${path}`

async function found(query: RemoteQuery, at = url()): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  for await (const { entry } of openRemote(at).find(query)) entries.push(entry)
  return entries
}

describe.skipIf(server === undefined)('logs in ClickHouse', () => {
  let all: LogEntry[] = []

  beforeAll(async () => {
    await server?.run('DROP TABLE IF EXISTS otel_logs')
    await server?.run(TABLE('otel_logs'))
    await server?.run(`INSERT INTO otel_logs FORMAT JSONEachRow ${RECORDS.map(rowOf).join('\n')}`)
    all = await found({})
  })

  const idsOf = (entries: readonly LogEntry[]) => entries.map(({ id }) => id)
  const expected = (filter: Filter) => idsOf(all.filter(matcherOf(filter)))

  it('come back as lines of ours', () => {
    expect(all).toHaveLength(RECORDS.length)
    expect(all.find(({ id }) => id === 'error')).toEqual({
      id: 'error',
      time: 1_795_000_000_123,
      level: 50,
      msg: 'request failed',
      service: 'shop',
      trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
      span_id: '00f067aa0ba902b7',
      trace_flags: 1,
      correlation_id: 'order-1',
      duration_ms: '251.5',
      idempotency: { hit: 'true', origin: { trace_id: 'a1' } },
      err: { type: 'TypeError', message: "can't read", stack: 'TypeError: …\n    at a', digest: '42' },
    })
  })

  it('come in the order of their times', async () => {
    const times = all.map(({ time }) => time as number)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    const backward = await found({ direction: 'backward' })
    expect(backward.map(({ time }) => time)).toEqual(times.toReversed())
  })

  it.each([
    'level >= warn',
    'level = error or level = INFO',
    'not (level > 30)',
    "correlation_id = 'order-1'",
    "trace_id = '4bf92f3577b34da6a3ce929d0e0e4736'",
    'trace_flags = 1',
    'service = shop and msg ~ FAILED',
    "msg ~ '%' or msg ~ '_' or msg ~ '\\'",
    "msg ~~ '^request (failed|completed)$'",
    'duration_ms > 250',
    'duration_ms <= 251.5',
    'duration_ms in (5, 251.5)',
    'status = 500 or status != 200',
    'idempotency.hit = true',
    'action ~ i and not (action ~ stop)',
    'action ~ k or not (action ~ s)',
    'exists(idempotency.origin)',
    'exists(err)',
    'not exists(err)',
    "err.type = TypeError and err.message ~ 'READ'",
    "err ~ 'can''t'",
    "time >= '2026-11-18T11:06:40Z' and time < 1795000001000",
    "not (exists(duration_ms) and duration_ms < '1')",
    "`weird name'` ~ 'KELVIN' or `a.b`.c = '$1'",
  ])('are found by %s as in a file', async (source) => {
    const filter = parseFilter(source)
    expect(expected(filter).length).toBeGreaterThan(0)
    expect(idsOf(await found({ filter }))).toEqual(expected(filter))
  })

  it('are found by any filter as in a file', async () => {
    await fc.assert(
      fc.asyncProperty(filtersOfRecords(RECORDS), async (filter) => {
        expect(idsOf(await found({ filter })), printFilter(filter)).toEqual(expected(filter))
      }),
      { numRuns: 600 },
    )
  }, 300_000)

  it('are found by the name that the store has, and by ours', async () => {
    const [entry] = await found({ filter: parseFilter("exception.type = TypeError and id = 'error'") })
    expect(entry?.err).toMatchObject({ type: 'TypeError' })
  })

  it('are given up to a limit', async () => {
    expect(idsOf(await found({ limit: 3 }))).toEqual(idsOf(all).slice(0, 3))
    expect(await found({ limit: 0 })).toEqual([])
  })

  it('are looked for between two times, both within', async () => {
    const query = { sinceMs: 1_795_000_000_123, untilMs: 1_795_000_000_500 }
    const within = all.filter(({ time }) => Number(time) >= query.sinceMs && Number(time) <= query.untilMs)
    expect(within.length).toBeGreaterThan(1)
    expect(idsOf(await found(query))).toEqual(idsOf(within))
  })

  it('come each once from page to page, also where many have one time', async () => {
    await server?.run('DROP TABLE IF EXISTS many_logs')
    await server?.run(TABLE('many_logs'))
    await server?.run(`INSERT INTO many_logs (Timestamp, Body)
      SELECT fromUnixTimestamp64Nano(1795000000000000000 + intDiv(number, 7000)), toString(number) FROM numbers(40000)`)
    for (const direction of ['forward', 'backward'] as const) {
      const lines = await found({ direction }, url('?table=many_logs'))
      expect(lines).toHaveLength(40_000)
      expect(new Set(lines.map(({ msg }) => msg)).size).toBe(40_000)
    }
  })

  it('are read from a table of an older exporter, without a column of seconds', async () => {
    await server?.run('DROP TABLE IF EXISTS old_logs')
    await server?.run(`CREATE TABLE old_logs ENGINE = MergeTree ORDER BY Timestamp AS
      SELECT * EXCEPT TimestampTime FROM otel_logs`)
    const filter = parseFilter('time > 1795000000000')
    expect(idsOf(await found({ filter }, url('?table=old_logs')))).toEqual(expected(filter))
  })

  it('of a table that is missing are refused with what ClickHouse says', async () => {
    await expect(found({}, url('?table=nowhere'))).rejects.toMatchObject({
      code: 'SOURCE_REFUSED',
      why: expect.stringContaining('nowhere'),
    })
  })

  it('of a table of something else are refused', async () => {
    await server?.run('CREATE TABLE IF NOT EXISTS others (Timestamp DateTime64(9)) ENGINE = Memory')
    await expect(found({}, url('?table=others'))).rejects.toMatchObject({
      code: 'SOURCE_REFUSED',
      why: expect.stringContaining('TraceId'),
    })
  })

  it('of a table with a name that is no name are no statement', async () => {
    const table = encodeURIComponent('otel_logs` WHERE 1 --')
    await expect(found({}, url(`?table=${table}`))).rejects.toMatchObject({ code: 'SOURCE_REFUSED' })
  })

  it('are not given for a wrong password, which is not told', async () => {
    const address = new URL(url())
    address.password = 'wr0ng'
    const error = await found({}, address.href).catch((thrown) => thrown)
    expect(error).toMatchObject({ code: 'SOURCE_REFUSED', fix: expect.stringContaining('password') })
    expect(`${error.message} ${error.stack}`).not.toContain('wr0ng')
  })

  it('are not told of by a server that is not there', async () => {
    const error = await found({}, `clickhouse://me:secret@127.0.0.1:${await freePort()}/x`).catch(
      (thrown) => thrown,
    )
    expect(error).toMatchObject({ code: 'SOURCE_UNREACHABLE', why: expect.stringContaining('ECONNREFUSED') })
    expect(error.message).not.toContain('secret')
  })
})

/** `npm run build` first. */
const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

function throughlineLogs(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'logs', '--source', url(), ...args], {
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

const idsPrinted = (stdout: string) =>
  stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => (JSON.parse(line) as LogEntry).id)

describe.skipIf(server === undefined)('throughline logs --source', () => {
  it('prints what the store finds, the last so many, and tables', async () => {
    const errors = (await found({ filter: parseFilter('level >= error') })).map(({ id }) => id)
    expect(idsPrinted(throughlineLogs('level >= error', '--json').stdout)).toEqual(errors)
    expect(idsPrinted(throughlineLogs('-n', '1', 'level >= error', '--json').stdout)).toEqual(
      errors.slice(-1),
    )
    const counted = throughlineLogs('level >= error', '--count-by', 'service', '--csv')
    expect(counted.stdout).toMatch(/^service,lines\n/)
  })

  it('says where it looked when nothing is found, exit 1, and what is no store, exit 1', () => {
    const { status, stdout, stderr } = throughlineLogs("msg = 'never written'")
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toMatch(/Looked in: {2}ClickHouse at 127\.0\.0\.1:\d+/)
    expect(stderr).not.toContain(new URL(url()).password)
    expect(throughlineLogs('--source', 'http://localhost:1').stderr).toContain('loki+http')
  })
})

/** Answers each request in turn, the last one again and again. */
async function withAnswers<T>(
  answers: readonly { status: number; text: string }[],
  use: (host: string) => Promise<T>,
): Promise<T> {
  let asked = 0
  const answering = createServer((request, response) => {
    request.resume().on('end', () => {
      const { status, text } = answers[Math.min(asked, answers.length - 1)] ?? { status: 500, text: '' }
      asked += 1
      response.writeHead(status).end(text)
    })
  })
  answering.listen(0, '127.0.0.1')
  await once(answering, 'listening')
  try {
    return await use(`127.0.0.1:${(answering.address() as AddressInfo).port}`)
  } finally {
    answering.close()
  }
}

describe('a server that answers like ClickHouse', () => {
  it('and fails after its first rows is told of', async () => {
    const columns = ['Timestamp', 'TraceId', 'SpanId', 'TraceFlags', 'SeverityText', 'SeverityNumber']
    const others = ['ServiceName', 'Body', 'LogAttributes']
    const rows = [...columns, ...others].map((name) => JSON.stringify({ name })).join('\n')
    const row = '{"ns":"1","ms":"0","LogAttributes":{}}'
    for (const failure of [
      'Code: 241. DB::Exception: Memory limit\x1b[2J exceeded',
      JSON.stringify({ exception: 'Code: 241. DB::Exception: Memory limit\x1b[2J exceeded' }),
    ])
      await withAnswers(
        [
          { status: 200, text: rows },
          { status: 200, text: `${row}\n${failure}\n` },
        ],
        (host) =>
          expect(found({}, `clickhouse://${host}`)).rejects.toMatchObject({
            code: 'SOURCE_REFUSED',
            why: 'It says: Code: 241. DB::Exception: Memory limit [2J exceeded.',
          }),
      )
  })

  it('and repeats the password is told of without it', async () => {
    await withAnswers(
      [{ status: 500, text: `no s3cr%t, no s3cr%25t, ${'x'.repeat(1_000)}` }],
      async (host) => {
        const error = await found({}, `clickhouse://me:s3cr%25t@${host}`).catch((thrown) => thrown)
        expect(error).toMatchObject({
          code: 'SOURCE_REFUSED',
          why: expect.stringContaining('no ***, no ***'),
        })
        expect(error.message.length).toBeLessThan(600)
      },
    )
  })
})
