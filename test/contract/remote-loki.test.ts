/** Logs in a real Loki are found as they are in a file. */

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Filter } from '../../src/query/filter/ast.ts'
import { type LogEntry, matcherOf } from '../../src/query/filter/match.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { printFilter } from '../../src/query/filter/print.ts'
import type { RemoteQuery } from '../../src/query/remote/contract.ts'
import { openRemote } from '../../src/query/remote/index.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { type LokiServer, startLoki } from '../support/loki.ts'
import { filtersOfLines, oddLines } from './odd-lines.ts'
import { filtersOfRecords, otelRecords } from './otel-records.ts'

const server = await startLoki()
afterAll(async () => server?.stop())

/** Loki looks for what is older than hours in its store alone, where it is not yet. */
const FIRST_MS = Date.now() - 1_200_000
/** A range that has all lines of a test in it. */
const ALL = { sinceMs: FIRST_MS - 1_000, untilMs: FIRST_MS + 600_000 }

const addressOf = ({ url }: { url: string }, stream: string, more = '') =>
  `loki+${url}?selector=${encodeURIComponent(`{service_name="${stream}"}`)}${more}`

async function found(address: string, query: RemoteQuery): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  for await (const { entry } of openRemote(address).find({ ...ALL, ...query })) entries.push(entry)
  return entries
}

const idsOf = (entries: readonly LogEntry[]) => entries.map(({ id }) => id)

async function push(
  to: LokiServer,
  stream: Record<string, string>,
  lines: readonly (readonly [ns: bigint, text: string])[],
  headers: Record<string, string> = {},
): Promise<void> {
  const values = lines.map(([ns, text]) => [String(ns), text])
  await send(`${to.url}/loki/api/v1/push`, { streams: [{ stream, values }] }, headers)
}

async function send(url: string, body: unknown, headers: Record<string, string> = {}): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
  if (!response.ok) throw new Error(await response.text())
}

const nanoseconds = (ms: number) => BigInt(ms) * 1_000_000n

describe.skipIf(server === undefined)('lines of JSON in Loki', () => {
  const loki = server as LokiServer
  const address = () => addressOf(loki, 'lines')
  const lines = oddLines(FIRST_MS)
  const all = lines.map(({ text }) => JSON.parse(text) as LogEntry)
  const expected = (filter: Filter) => idsOf(all.filter(matcherOf(filter)))

  beforeAll(async () => {
    const torn: [bigint, string] = [nanoseconds(FIRST_MS), '{"id":"torn","level":50']
    await push(loki, { service_name: 'lines' }, [torn, ...lines.map(({ ns, text }) => [ns, text] as const)])
  })

  it('come as they were written, and what is no JSON does not', async () => {
    const texts: string[] = []
    for await (const { text } of openRemote(address()).find(ALL)) texts.push(text)
    expect(texts).toEqual(lines.map(({ text }) => text))
  })

  it.each([
    'level >= warn',
    'level = error or level = info',
    'not (level > 30)',
    "correlation_id = 'order-1'",
    'duration_ms > 250',
    'duration_ms <= 250.5',
    'duration_ms < 0 or duration_ms >= 1000000',
    'status in (500, 200)',
    "status != 200 and status < '6'",
    'idempotency.hit = true',
    'exists(err.stack)',
    'not exists(err)',
    "err ~ 'can''t READ'",
    "msg ~ 'İSTANBUL' or msg ~ KELVIN",
    "msg ~ 'a\"b' or msg ~ '\\'",
    "msg ~~ '^request (failed|completed)$'",
    "path = '/checkout/x' or msg = '注文'",
    "tags.0 = 'a' or tags ~ 'a,b'",
    `time >= ${FIRST_MS + 500} and time < ${FIRST_MS + 1_500}`,
    'twice = 2 and not (twice = 1)',
    "`a.b` = 1 or a.b = 2 or `x\"y` = 'z'",
  ])('are found by %s as in a file', async (source) => {
    const filter = parseFilter(source)
    expect(expected(filter).length).toBeGreaterThan(0)
    expect(idsOf(await found(address(), { filter }))).toEqual(expected(filter))
  })

  it('are found by any filter as in a file', async () => {
    await fc.assert(
      fc.asyncProperty(filtersOfLines(all, FIRST_MS), async (filter) => {
        expect(idsOf(await found(address(), { filter })), printFilter(filter)).toEqual(expected(filter))
      }),
      { numRuns: 400 },
    )
  }, 300_000)

  it('come with the latest first, and up to a limit', async () => {
    expect(idsOf(await found(address(), { direction: 'backward', limit: 5 }))).toEqual(
      idsOf(all.toReversed()).slice(0, 5),
    )
    expect(await found(address(), { limit: 0 })).toEqual([])
  })

  it('come each once from page to page, also where many have one nanosecond', async () => {
    const many = Array.from({ length: 12_000 }, (_, index) => {
      const ns = nanoseconds(FIRST_MS) + BigInt(Math.floor(index / 1_700))
      return [ns, JSON.stringify({ id: index, msg: 'x' })] as const
    })
    await push(
      loki,
      { service_name: 'many', half: '1' },
      many.filter((_, index) => index % 2 === 0),
    )
    await push(
      loki,
      { service_name: 'many', half: '2' },
      many.filter((_, index) => index % 2 === 1),
    )
    const wanted = many.map((_, index) => index)
    for (const direction of ['forward', 'backward'] as const) {
      const ids = idsOf(await found(addressOf(loki, 'many'), { direction })) as number[]
      expect(ids.toSorted((a, b) => a - b)).toEqual(wanted)
    }
  })

  it('of one nanosecond that are more than Loki gives are told of', async () => {
    const same = Array.from(
      { length: 5_500 },
      (_, id) => [nanoseconds(FIRST_MS), JSON.stringify({ id })] as const,
    )
    await push(loki, { service_name: 'same' }, same)
    await expect(found(addressOf(loki, 'same'), {})).rejects.toMatchObject({
      code: 'SOURCE_REFUSED',
      why: expect.stringContaining('one nanosecond'),
    })
  })

  it('are looked for in the last hour when nothing says since when', async () => {
    const old = JSON.stringify({ id: 'old' })
    await push(loki, { service_name: 'ages' }, [[nanoseconds(Date.now() - 5_400_000), old]])
    await push(loki, { service_name: 'ages' }, [[nanoseconds(FIRST_MS), JSON.stringify({ id: 'new' })]])
    const ages = openRemote(addressOf(loki, 'ages'))
    expect(ages.defaultSpanMs).toBe(3_600_000)
    const ids: unknown[] = []
    for await (const { entry } of ages.find({})) ids.push(entry.id)
    expect(ids).toEqual(['new'])
    const query = { sinceMs: Date.now() - 7_200_000 }
    expect(idsOf(await found(addressOf(loki, 'ages'), query))).toEqual(['old', 'new'])
  })

  it('are refused with what Loki says', async () => {
    const broken = `loki+${loki.url}?selector=${encodeURIComponent('{service_name=}')}`
    await expect(found(broken, {})).rejects.toMatchObject({
      code: 'SOURCE_REFUSED',
      why: expect.stringMatching(/HTTP 400.*parse error/),
    })
  })
})

describe.skipIf(server === undefined)('log records in Loki', () => {
  const loki = server as LokiServer
  // Every service of the records.
  const selector = encodeURIComponent('{service_name=~"shop|mail|unknown_service"}')
  const address = () => `loki+${loki.url}?format=otlp&selector=${selector}`
  const OFFSET = nanoseconds(FIRST_MS) - 1_795_000_000_000_000_000n
  const records = otelRecords().map((record) => ({ ...record, ns: record.ns + OFFSET }))
  let all: LogEntry[] = []
  const expected = (filter: Filter) => idsOf(all.filter(matcherOf(filter)))

  beforeAll(async () => {
    const attributesOf = (attributes: Record<string, string>) =>
      Object.entries(attributes).map(([key, stringValue]) => ({ key, value: { stringValue } }))
    const resourceLogs = records.map((record) => ({
      resource: { attributes: attributesOf({ 'service.name': record.service }) },
      scopeLogs: [
        {
          logRecords: [
            {
              timeUnixNano: String(record.ns),
              severityNumber: record.severityNumber,
              severityText: record.severityText,
              body: { stringValue: record.body },
              traceId: record.traceId,
              spanId: record.spanId,
              flags: record.flags,
              // Loki takes no attribute without a name.
              attributes: attributesOf(record.attributes).filter(({ key }) => key !== ''),
            },
          ],
        },
      ],
    }))
    await send(`${loki.url}/otlp/v1/logs`, { resourceLogs })
    all = await found(address(), {})
  })

  it('come back as lines of ours', () => {
    expect(all).toHaveLength(records.length)
    expect(all.find(({ id }) => id === 'error')).toEqual({
      id: 'error',
      time: FIRST_MS + 123,
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

  it.each([
    'level >= warn',
    'not (level > 30)',
    "correlation_id = 'order-1'",
    'trace_flags = 1',
    'service = shop and msg ~ FAILED',
    "msg ~ '%' or msg ~ '\\'",
    'duration_ms > 250',
    'duration_ms in (5, 251.5)',
    'status = 500 or status != 200',
    'idempotency.hit = true',
    'action ~ i and not (action ~ stop)',
    'action ~ k or not (action ~ s)',
    'exists(idempotency.origin)',
    'not exists(err)',
    "err.type = TypeError and err.message ~ 'READ'",
    "err ~ 'can''t'",
    `time >= ${FIRST_MS + 100} and time < ${FIRST_MS + 1_100}`,
    'not (action = kelvin or action = a)',
    "not exists(action) and not (status = 'x')",
  ])('are found by %s as in a file', async (source) => {
    const filter = parseFilter(source)
    expect(expected(filter).length).toBeGreaterThan(0)
    expect(idsOf(await found(address(), { filter }))).toEqual(expected(filter))
  })

  it('are found by any filter as in a file', async () => {
    await fc.assert(
      fc.asyncProperty(filtersOfRecords(records, ['user.', 'a.b', "'"]), async (filter) => {
        expect(idsOf(await found(address(), { filter })), printFilter(filter)).toEqual(expected(filter))
      }),
      { numRuns: 400 },
    )
  }, 300_000)

  it('are found by the name that OpenTelemetry has, which Loki writes otherwise', async () => {
    const filter = parseFilter("user.name = kelvin or exception.type = 'TypeError'")
    expect(idsOf(await found(address(), { filter })).length).toBeGreaterThan(1)
  })
})

describe.skipIf(server === undefined)('a Loki that gives little, to tenants alone', () => {
  let loki: LokiServer

  beforeAll(async () => {
    loki = (await startLoki({ hasTenants: true, maxLines: 40 })) as LokiServer
  })
  afterAll(async () => loki?.stop())

  it('is asked for as much as it gives, by the tenant in the address', async () => {
    const lines = Array.from({ length: 200 }, (_, id) => {
      return [nanoseconds(FIRST_MS + Math.floor(id / 20)), JSON.stringify({ id })] as const
    })
    await push(loki, { service_name: 'few' }, lines, { 'x-scope-orgid': 'team-a' })
    const of = (tenant: string) => found(addressOf(loki, 'few', `&tenant=${tenant}`), {})
    await eventually(async () => expect(await of('team-a')).toHaveLength(200))
    expect(await of('team-b')).toEqual([])
    await expect(found(addressOf(loki, 'few'), {})).rejects.toMatchObject({
      code: 'SOURCE_REFUSED',
      why: expect.stringContaining('no org id'),
    })
  })
})

describe('a Loki that is not there', () => {
  it('is told of, without the password', async () => {
    const url = `loki+http://me:secret@127.0.0.1:${await freePort()}`
    const error = await found(url, {}).catch((thrown) => thrown)
    expect(error).toMatchObject({ code: 'SOURCE_UNREACHABLE', why: expect.stringContaining('ECONNREFUSED') })
    expect(error.message).not.toContain('secret')
  })
})
