/**
 * Runs `throughline traces` as people do, on span files written by hand: a child process of the compiled command.
 * `npm run build` first. What it must answer is reckoned here from what the traces were made of.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { textWidth } from '../../src/cli/terminal/printable.ts'
import { terminalOf } from '../../src/cli/terminal/terminal.ts'
import { renderTraces } from '../../src/cli/traces/render-traces.ts'
import { listTraces } from '../../src/query/traces/list-traces.ts'
import type { StoredSpan } from '../../src/query/traces/span-files.ts'
import { summaryOf, type TraceFacts, withSpan } from '../../src/query/traces/trace-summary.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const START_MS = Date.UTC(2026, 10, 24, 4, 15)

/** What a trace is made of. */
interface Made {
  traceId: string
  correlationId: string
  startMs: number
  durationMs: number
  method: string
  route: string
  status: number
  action: string | undefined
  /** Keys that it used again. */
  hits: number
  errors: number
  /** Beside the request's own. */
  inner: number
  service: string
}

const made: Made[] = Array.from({ length: 60 }, (_, index) => ({
  traceId: (index + 1).toString(16).padStart(32, 'a'),
  correlationId: index % 5 === 0 ? `order-${index}` : (index + 1).toString(16).padStart(32, 'a'),
  // Neither as they are numbered nor the other way round.
  startMs: ((index * 37) % 60) * 10_000,
  durationMs: 5 + ((index * 13) % 60) * 20,
  method: index % 3 === 0 ? 'POST' : 'GET',
  route: index % 2 === 0 ? '/checkout' : '/orders/[id]',
  status: index % 10 === 3 ? 500 : 200,
  action: index % 3 === 0 ? (index % 2 === 0 ? 'createOrder' : 'cancelOrder') : undefined,
  hits: index % 6 === 0 ? 1 + (index % 4) : 0,
  errors: index % 10 === 3 ? 2 : 0,
  inner: 3 + (index % 4),
  service: index % 7 === 0 ? 'admin' : 'shop',
}))

const newestFirst = [...made].sort((a, b) => b.startMs - a.startMs)

let shop: string
let directory: string

beforeAll(() => {
  shop = newDirectory()
  // Children before their request, as an exporter writes them, and in another file.
  writeBatches(shop, '1.ndjson', made.map(innerSpansOf))
  writeBatches(shop, '2.ndjson', made.map((item) => [requestSpanOf(item)]).reverse())
})

afterAll(() => rmSync(shop, { recursive: true, force: true }))

beforeEach(() => {
  directory = newDirectory()
})

afterEach(() => rmSync(directory, { recursive: true, force: true }))

const hasStatus = (status: number) => (item: Made) => item.status === status

/** Arguments, and which traces they must find. */
const ANSWERS: [args: string[], isFound: (item: Made) => boolean][] = [
  [[], () => true],
  [['--hits'], ({ hits }) => hits > 0],
  [['--errors'], ({ errors }) => errors > 0],
  [['--slow', '500ms'], ({ durationMs }) => durationMs >= 500],
  [['--slow', '1s'], ({ durationMs }) => durationMs >= 1000],
  [['--slow', '0.01m'], ({ durationMs }) => durationMs >= 600],
  [['--route', '/orders/[id]'], ({ route }) => route === '/orders/[id]'],
  [['--action', 'createOrder'], ({ action }) => action === 'createOrder'],
  [['--service', 'admin'], ({ service }) => service === 'admin'],
  [['--correlation', 'order-10'], ({ correlationId }) => correlationId === 'order-10'],
  [['--since', '2026-11-24T04:20:00Z'], ({ startMs }) => startMs >= 300_000],
  [
    ['--since', '2026-11-24T04:16:00Z', '--until', '2026-11-24T04:20:00Z'],
    ({ startMs }) => startMs >= 60_000 && startMs < 300_000,
  ],
  [
    ['--hits', '--slow', '300ms', '--action', 'createOrder'],
    ({ hits, durationMs, action }) => hits > 0 && durationMs >= 300 && action === 'createOrder',
  ],
  [['status >= 500'], hasStatus(500)],
  [['status = 500', '--service', 'shop'], (item) => item.status === 500 && item.service === 'shop'],
  [['hits > 1 or errors = 2'], ({ hits, errors }) => hits > 1 || errors === 2],
  [
    ['duration_ms < 100 and not exists(action)'],
    ({ durationMs, action }) => durationMs < 100 && action === undefined,
  ],
  [['route ~ CHECKOUT and method = POST'], ({ route, method }) => route === '/checkout' && method === 'POST'],
  [['spans in (4, 5)'], ({ inner }) => inner + 1 === 4 || inner + 1 === 5],
  [['name ~~ "^POST /o"'], ({ method, route }) => method === 'POST' && route.startsWith('/o')],
  [['outcome = redirect'], ({ action }) => action === 'cancelOrder'],
  [['correlation_id = trace_id'], () => false],
  [['idempotency.hit = true and hit = true'], ({ hits }) => hits > 0],
  [['idempotency.outcome = replay and exists(idempotency.key_hash)'], ({ hits }) => hits > 0],
  [['time < "2026-11-24T04:15:30Z"'], ({ startMs }) => startMs < 30_000],
  [['complete = false or race = true'], () => false],
]

describe('throughline traces', () => {
  it.each(ANSWERS)('finds for %j what JavaScript finds, the newest first', (args, isFound) => {
    const expected = newestFirst.filter(isFound).map(({ traceId }) => traceId)
    const { status, stdout, stderr } = run(shop, 'traces', ...args, '--json', '-n', '100')
    if (expected.length === 0) {
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
      return
    }
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(idsIn(stdout)).toEqual(expected)
  })

  it('sums each trace up, though its spans are in two files', () => {
    const { traces, ...rest } = JSON.parse(run(shop, 'traces', '--json', '-n', '100').stdout)
    expect(rest).toEqual({ total: 60, leftOut: 0, unreadableLines: 0 })
    expect(traces).toEqual(
      newestFirst.map((item) => ({
        ...{ traceId: item.traceId, correlationId: item.correlationId },
        ...{ startTimeMs: START_MS + item.startMs, durationMs: item.durationMs },
        ...{ name: `${item.method} ${item.route}`, method: item.method, route: item.route },
        status: item.status,
        ...(item.action === undefined
          ? {}
          : { action: item.action, outcome: item.action === 'cancelOrder' ? 'redirect' : 'ok' }),
        ...{ service: item.service, services: [item.service] },
        ...{ spans: item.inner + 1, errors: item.errors, hits: item.hits, isRace: false, isComplete: true },
        ...(item.hits > 0 ? { idempotencyOutcome: 'replay', keyHash: 'f'.repeat(16) } : {}),
      })),
    )
  })

  it('lists twenty, or as many as -n says, and tells how many more there are', () => {
    const rows = (text: string) => text.split('\n').filter((line) => /^\d\d:/.test(line))
    const { stdout } = run(shop, 'traces')
    expect(rows(stdout)).toHaveLength(20)
    expect(stdout).toContain('\n40 more: -n 60 shows all.\n')
    expect(rows(run(shop, 'traces', '-n', '3').stdout)).toHaveLength(3)
    const all = run(shop, 'traces', '-n', '60').stdout
    expect(rows(all)).toHaveLength(60)
    expect(all).not.toContain('more')
  })

  it('lists the longest first with --sort duration', () => {
    const longest = [...made].sort((a, b) => b.durationMs - a.durationMs).map(({ traceId }) => traceId)
    expect(idsIn(run(shop, 'traces', '--sort', 'duration', '--json', '-n', '7').stdout)).toEqual(
      longest.slice(0, 7),
    )
  })

  it('prints a row for each, with IDs that throughline trace takes', () => {
    writeBatches(directory, '1.ndjson', [
      [
        span('1', { name: 'GET /', durationMs: 10, attributes: requestAttributes('GET', '/', 200) }),
        ...[worker({ attempt: 2, outcome: 'dead', error: 'refused' })],
        span('1', {
          ...{ traceId: 'c'.repeat(32), startMs: 2000, durationMs: 250, name: 'POST /checkout' },
          attributes: {
            ...requestAttributes('POST', '/checkout', 303),
            ...{ 'next.server_action.name': 'createOrder', 'correlation.id': 'order-7' },
            ...{ 'idempotency.hit': true, 'idempotency.key_hash': 'f'.repeat(16) },
          },
        }),
      ],
    ])
    const { status, stdout, stderr } = run(directory, 'traces')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toBe(
      `
11-24, UTC    duration  spans     correlation ID                    request
04:15:02.000    250 ms      1  ⚑  order-7                           POST /checkout 303 · createOrder
04:15:01.000    500 ms      1  ✗  bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb  process payment.charge · attemp…
04:15:00.000   10.0 ms      1     aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  GET / 200
`.slice(1),
    )
    expect(run(directory, 'trace', 'order-7').status).toBe(0)
    expect(run(directory, 'trace', 'b'.repeat(8)).status).toBe(0)
  })

  it('says of a misspelt field which is meant, exit 2', () => {
    const { status, stdout, stderr } = run(shop, 'traces', 'duratoin_ms > 500')
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain('no field "duratoin_ms". Did you mean "duration_ms"?')
    expect(stderr).toContain('See: throughline traces --help')
  })

  it('shows where a filter does not parse, exit 2', () => {
    const { status, stdout, stderr } = run(shop, 'traces', 'status >= and hits > 1')
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain(`  status >= and hits > 1\n${' '.repeat(12)}^^^\n`)
    expect(stderr).toContain('See: throughline traces --help')
  })

  it('says where it looked, and which names there are, when nothing is found, exit 1', () => {
    const { status, stdout, stderr } = run(shop, 'traces', '--action', 'creatOrder', '--route', '/')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain(`${shop}: 2 span files, 60 traces.`)
    expect(stderr).toContain('Actions that there are: cancelOrder, createOrder\n')
    expect(stderr).toContain('Routes that there are: /checkout, /orders/[id]\n')
    expect(stderr).not.toContain('Services')
    const nowhere = run(join(directory, 'nowhere'), 'traces')
    expect(nowhere.status).toBe(1)
    expect(nowhere.stderr).toContain('0 span files, 0 traces.')
    expect(nowhere.stderr).toContain('--dir or THROUGHLINE_DIR')
  })

  it.each([
    [['a = 1', 'b = 2']],
    [['-n', '0']],
    [['-n', 'x']],
    [['--slow', '500']],
    [['--slow', 'ms']],
    [['--slow', '-1s']],
    [['--since', 'yesterday']],
    [['--sort', 'name']],
    [['--colour']],
  ])('takes %j for a usage error, exit 2, with nothing on stdout', (args) => {
    const { status, stdout, stderr } = run(shop, 'traces', ...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain('throughline traces --help')
  })

  it('has help that names each field a filter can ask for', () => {
    const { status, stdout } = run(shop, 'traces', '--help')
    expect(status).toBe(0)
    expect(stdout).toMatch(/Examples:\n {2}\$ throughline traces/)
    const { stderr } = run(shop, 'traces', 'x = 1')
    const fields = /It has: (.*)\.\n/.exec(stderr)?.[1]?.split(', ') ?? []
    expect(fields.length).toBeGreaterThan(15)
    for (const field of fields) expect(stdout).toMatch(new RegExp(`[ ,]${field}[ ,\n]`))
  })
})

describe('what a trace is summed up to', () => {
  it('is told by its outermost span, and where that has no route, by the next that has one', () => {
    const outer = span('1', { name: 'GET', durationMs: 30, attributes: { 'http.method': 'GET' }, kind: 2 })
    const page = span('2', {
      ...{ parentSpanId: id('1'), name: 'GET /shop', startMs: 3, durationMs: 20, kind: 2 },
      attributes: { ...requestAttributes('GET', '/shop', 404), 'correlation.id': 'order-1' },
    })
    const call = span('3', {
      ...{ parentSpanId: id('2'), name: 'fetch GET', startMs: 5, kind: 3 },
      attributes: requestAttributes('PUT', '/elsewhere', 503),
    })
    writeBatches(directory, '1.ndjson', [[call, page], [outer]])
    expect(JSON.parse(run(directory, 'traces', '--json').stdout).traces).toMatchObject([
      { name: 'GET', method: 'GET', route: '/shop', status: 404, correlationId: 'order-1', durationMs: 30 },
    ])
  })

  it('is not complete while the first span is missing, and complete with a parent in another process', () => {
    const local = span('2', { parentSpanId: id('1'), name: 'SELECT orders' })
    const remote = span('2', { traceId: 'b'.repeat(32), parentSpanId: id('1'), flags: 0x300, name: 'GET /' })
    writeBatches(directory, '1.ndjson', [[local, remote]])
    const { stdout } = run(directory, 'traces', 'complete = false')
    expect(stdout).toContain('SELECT orders · its first')
    expect(stdout).not.toContain('GET /')
  })

  it('counts a span once that was written twice, and equal span IDs of two traces apart', () => {
    const first = span('1')
    writeBatches(directory, '1.ndjson', [[first, span('2')], [first], [span('1', { traceId: ORIGIN })]])
    writeBatches(directory, '2.ndjson', [[first]])
    const { traces } = JSON.parse(run(directory, 'traces', '--json').stdout)
    expect(traces.map((trace: { spans: number }) => trace.spans).sort()).toEqual([1, 2])
  })

  it('has the services of all its spans', () => {
    const batch = (service: string, item: object) => ({ ...otlp([item], service) })
    writeLines(directory, '1.ndjson', [
      batch('shop', span('1')),
      batch('ledger', span('2', { parentSpanId: id('1') })),
    ])
    expect(JSON.parse(run(directory, 'traces', '--service', 'ledger', '--json').stdout).traces).toMatchObject(
      [{ service: 'shop', services: ['ledger', 'shop'] }],
    )
    expect(run(directory, 'traces', 'services ~ ledger and service = shop').status).toBe(0)
    expect(run(directory, 'traces', 'service = ledger').status).toBe(1)
  })

  it('is the same in whatever order its spans come', () => {
    const spans = [
      stored({
        spanId: 'a',
        startTimeMs: 5,
        durationMs: 4,
        name: 'GET',
        attributes: { 'http.method': 'GET' },
      }),
      stored({ spanId: 'b', startTimeMs: 5, name: 'GET /x', attributes: { 'next.route': '/x' } }),
      stored({ spanId: 'c', parentSpanId: 'a', attributes: { 'next.route': '/y', 'http.status_code': 200 } }),
      stored({ spanId: 'd', parentSpanId: 'x', isParentRemote: true, attributes: { 'next.route': '/z' } }),
      stored({ spanId: 'e', parentSpanId: 'c', attributes: { 'next.server_action.name': 'one' } }),
      stored({ spanId: 'f', parentSpanId: 'c', attributes: { 'next.server_action.name': 'two' } }),
    ]
    const expected = sumUp(spans)
    fc.assert(
      fc.property(fc.shuffledSubarray(spans, { minLength: spans.length }), (shuffled) => {
        expect(sumUp(shuffled)).toEqual(expected)
      }),
    )
  })
})

describe('files of any size and shape', () => {
  it('are summed up trace by trace: 10 000 traces, their spans scattered', () => {
    const count = 10_000
    const file = openSync(join(directory, 'traces', '1.ndjson'), 'w')
    const idOf = (index: number) => index.toString(16).padStart(32, '0')
    // All second spans first, then all requests: spans of one trace are 10 000 spans apart.
    for (const spanId of ['2', '1']) {
      for (let from = 0; from < count; from += 500) {
        const batch = Array.from({ length: 500 }, (_, index) =>
          span(spanId, {
            ...{
              traceId: idOf(from + index + 1),
              startMs: from + index,
              durationMs: 1 + ((from + index) % 100),
            },
            ...(spanId === '2' ? { parentSpanId: id('1') } : {}),
          }),
        )
        writeSync(file, `${JSON.stringify(otlp(batch))}\n`)
      }
    }
    closeSync(file)
    const { traces, total } = JSON.parse(run(directory, 'traces', '--slow', '100ms', '--json').stdout)
    expect(total).toBe(100)
    expect(traces).toHaveLength(20)
    expect(traces[0]).toMatchObject({ traceId: idOf(10_000), spans: 2, durationMs: 100 })
  })

  it('do not grow what is kept: the newest traces are, and the others counted', async () => {
    const all = made.map((item) => [...innerSpansOf(item), requestSpanOf(item)])
    writeBatches(directory, '1.ndjson', [...all, ...made.map(innerSpansOf)])
    const query = { sort: 'time', limit: 100, maxTraces: 10 } as const
    const found = await listTraces(directory, query)
    if (found.kind !== 'found') throw new Error('nothing found')
    expect(found.traces.map(({ traceId }) => traceId)).toEqual(
      newestFirst.slice(0, 10).map(({ traceId }) => traceId),
    )
    expect(found.leftOut).toBeGreaterThan(0)
    const text = renderTraces(found, terminalOf({}, {}, false))
    expect(text).toContain(`at least ${found.leftOut} older traces are left out`)
    const before = { kind: 'compare', field: ['time'], comparison: '<', value: START_MS + 1 } as const
    expect(await listTraces(directory, { ...query, filter: before })).toMatchObject({ kind: 'nothing' })
  })

  it('may be torn, or hold what is no span', () => {
    const good = JSON.stringify(otlp([span('1', { name: 'GET /good' })]))
    const odd = otlp([
      { traceId: ORIGIN, name: 'no span ID' },
      { spanId: id('1'), name: 'no trace ID' },
      { ...span('7', { traceId: ORIGIN, name: 'no times' }), startTimeUnixNano: 'x', endTimeUnixNano: {} },
      7,
    ])
    writeFileSync(
      join(directory, 'traces', '1.ndjson'),
      [good.slice(0, 40), good, 'null', '[]', JSON.stringify(odd), '', good.slice(0, -1)].join('\n'),
    )
    const { status, stdout } = run(directory, 'traces')
    expect(status).toBe(0)
    expect(stdout).toMatch(/^2026-11-24 04:15:00 .*GET \/good$/m)
    expect(stdout).toMatch(/^1970-01-01 00:00:00 .*no times$/m)
    expect(stdout).not.toMatch(/no span ID|no trace ID/)
    expect(stdout).toContain('4 lines of the files could not be read and are left out.')
  })

  it('may hold texts of any length: what is shown and asked is their beginning', () => {
    const name = `GET /${'x'.repeat(100_000)}`
    writeBatches(directory, '1.ndjson', [[span('1', { name })]])
    const { traces } = JSON.parse(run(directory, 'traces', '--json').stdout)
    expect(name.startsWith(traces[0].name)).toBe(true)
    expect(traces[0].name.length).toBeLessThan(1000)
  })
})

describe('what strangers wrote', () => {
  const EVIL = '\x1b]0;owned\x07\x1b[31m\x9b2J\u202etxt\u2066\r\n\x00\u2028\u{e0041}end'
  const COMMANDS =
    /(?!\n)\p{Cc}|[\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u{e0000}-\u{e007f}]/u

  it('is neutralised in the list, in --json and in every message', () => {
    const attributes = {
      ...requestAttributes(EVIL, EVIL, 200),
      ...{ 'next.server_action.name': EVIL, 'correlation.id': EVIL, 'action.outcome': EVIL },
    }
    writeLines(directory, '1.ndjson', [otlp([span('1', { name: EVIL, attributes, kind: 2 })], EVIL)])
    const argument = EVIL.replaceAll('\x00', '')
    const outputs = [
      run(directory, 'traces'),
      run(directory, 'traces', '--json'),
      run(directory, 'traces', '--action', 'none', '--route', 'none', '--service', 'none'),
      run(directory, 'traces', argument),
      run(directory, 'traces', `\`${argument}\` = 1`),
    ]
    expect(outputs.map(({ status }) => status)).toEqual([0, 0, 1, 2, 2])
    expect(outputs[0]?.stdout).toContain('\\x1b]0;owned')
    expect(JSON.parse(outputs[1]?.stdout ?? '').traces[0]).toMatchObject({ name: EVIL, route: EVIL })
    for (const { stdout, stderr } of outputs) expect(stdout + stderr).not.toMatch(COMMANDS)
  })
})

describe('the terminal', () => {
  it('gets no line wider than it is, and an ID whole where there is room', async () => {
    writeBatches(directory, '1.ndjson', [
      [
        span('1', { name: '注文を作成 🛒 '.repeat(20), traceId: ORIGIN }),
        worker({ attempt: 2, outcome: 'retried', error: 'x' }),
      ],
    ])
    for (const columns of [20, 40, 60, 80, 100, 120, 200]) {
      const text = stripVTControlCharacters(await rendered({ isTTY: true, columns }, {}))
      for (const line of text.split('\n')) expect(textWidth(line)).toBeLessThanOrEqual(columns)
      expect(text.includes(ORIGIN)).toBe(columns >= 100)
      expect(text.includes(ORIGIN.slice(0, 6))).toBe(columns >= 40)
      expect(text.includes('━')).toBe(columns >= 120)
    }
  })

  it('gets colours; a pipe, NO_COLOR and --no-color do not', async () => {
    writeBatches(directory, '1.ndjson', [[span('1')]])
    const terminal = { isTTY: true, columns: 100 }
    expect(await rendered(terminal, {})).toContain('\x1b[')
    expect(await rendered(terminal, { NO_COLOR: '1' })).not.toContain('\x1b')
    expect(await rendered(terminal, {}, false)).not.toContain('\x1b')
    expect(run(directory, 'traces', '--no-color').stdout).not.toContain('\x1b')
  })

  it('gets ASCII only where its locale is not UTF-8', async () => {
    writeBatches(directory, '1.ndjson', [[worker({ attempt: 3, outcome: 'dead', error: 'x' })]])
    expect(await rendered({ columns: 200 }, { LANG: 'C' })).toMatch(/^[\n -~]*$/)
  })
})

const ORIGIN = 'a1e2c8d07f6b4c3f9d5e0b1a2c3d4e5f'

function newDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'throughline-traces-'))
  mkdirSync(join(path, 'traces'))
  return path
}

function run(dir: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    env: { PATH: process.env.PATH, TZ: 'UTC', THROUGHLINE_DIR: dir },
  })
  return { status, stdout, stderr }
}

function idsIn(stdout: string): string[] {
  return JSON.parse(stdout).traces.map((trace: { traceId: string }) => trace.traceId)
}

async function rendered(
  stream: { isTTY?: boolean; columns?: number },
  env: Record<string, string>,
  isColorWanted = true,
): Promise<string> {
  const found = await listTraces(directory, { sort: 'time', limit: 20 })
  if (found.kind !== 'found') throw new Error(found.kind)
  return renderTraces(found, terminalOf(stream, env, isColorWanted))
}

type Values = Record<string, string | number | boolean>

interface GivenSpan {
  traceId?: string
  parentSpanId?: string
  name?: string
  startMs?: number
  durationMs?: number
  kind?: number
  flags?: number
  status?: { code: number; message?: string }
  attributes?: Values
  /** Of its batch, which is written by one service. */
  service?: string
}

/** A span as OTLP/JSON has it; times from the start of the test's day. */
function span(spanId: string, { startMs = 0, durationMs = 1, attributes = {}, ...given }: GivenSpan = {}) {
  return {
    ...{ traceId: 'a'.repeat(32), spanId: id(spanId), name: 'span', kind: 1, events: [], links: [] },
    startTimeUnixNano: nano(startMs),
    endTimeUnixNano: nano(startMs + durationMs),
    attributes: attributesOf(attributes),
    ...given,
  }
}

function requestAttributes(method: string, route: string, status: number): Values {
  return {
    ...{ 'http.method': method, 'http.status_code': status, 'http.route': route, 'next.route': route },
    'next.span_type': 'BaseServer.handleRequest',
  }
}

function requestSpanOf(item: Made) {
  const { traceId, startMs, durationMs, method, route, status, action } = item
  return span('1', {
    ...{ traceId, startMs, durationMs, name: `${method} ${route}`, kind: 2 },
    ...(item.errors > 0 ? { status: { code: 2 } } : {}),
    attributes: {
      ...requestAttributes(method, route, status),
      'correlation.id': item.correlationId,
      ...(action === undefined
        ? {}
        : {
            'next.server_action.name': action,
            'action.outcome': action === 'cancelOrder' ? 'redirect' : 'ok',
          }),
      // The last one that it used.
      ...(item.hits > 0 ? hitOf('f'.repeat(16)) : {}),
    },
    service: item.service,
  })
}

function innerSpansOf(item: Made) {
  return Array.from({ length: item.inner }, (_, index) =>
    span(String(index + 2), {
      ...{
        traceId: item.traceId,
        parentSpanId: id('1'),
        startMs: item.startMs + index,
        name: 'SELECT orders',
      },
      ...(index < item.errors - 1 ? { status: { code: 2, message: 'failed' } } : {}),
      attributes: {
        'correlation.id': item.correlationId,
        ...(index < item.hits ? hitOf(index === 0 ? 'f'.repeat(16) : `${index}`.padStart(16, '0')) : {}),
      },
      service: item.service,
    }),
  )
}

function hitOf(keyHash: string): Values {
  return { 'idempotency.hit': true, 'idempotency.outcome': 'replay', 'idempotency.key_hash': keyHash }
}

function worker({ attempt, outcome, error }: { attempt: number; outcome: string; error: string }) {
  return span('1', {
    ...{ traceId: 'b'.repeat(32), startMs: 1000, durationMs: 500, name: 'process payment.charge', kind: 5 },
    status: { code: 2, message: error },
    attributes: {
      ...{ 'outbox.topic': 'payment.charge', 'outbox.attempt': attempt, 'outbox.outcome': outcome },
      'next.server_action.name': 'createOrder',
    },
  })
}

function id(spanId: string): string {
  return spanId.padStart(16, '0')
}

function nano(offsetMs: number): string {
  return String(BigInt(START_MS) * 1_000_000n + BigInt(Math.round(offsetMs * 1e6)))
}

function attributesOf(values: Values): unknown[] {
  return Object.entries(values).map(([key, value]) => {
    if (typeof value === 'string') return { key, value: { stringValue: value } }
    return { key, value: typeof value === 'number' ? { intValue: value } : { boolValue: value } }
  })
}

/** One export: spans of one service. */
function otlp(spans: unknown[], service = 'shop') {
  const resource = { attributes: attributesOf({ 'service.name': service }) }
  return { resourceSpans: [{ resource, scopeSpans: [{ spans }] }] }
}

/** A line for each batch; a span that names its service gets it. */
function writeBatches(dir: string, file: string, batches: readonly { service?: string }[][]): void {
  writeLines(
    dir,
    file,
    batches.map((batch) => otlp(batch, batch[0]?.service)),
  )
}

function writeLines(dir: string, file: string, lines: readonly object[]): void {
  writeFileSync(join(dir, 'traces', file), lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
}

function stored(given: Partial<StoredSpan> & { spanId: string }): StoredSpan {
  return {
    ...{
      traceId: ORIGIN,
      name: 'span',
      isParentRemote: false,
      kind: 'server',
      startTimeMs: 7,
      durationMs: 1,
    },
    ...{ status: 'unset', attributes: {}, events: [], links: [] },
    ...given,
  }
}

function sumUp(spans: readonly StoredSpan[]): object {
  let facts: TraceFacts | undefined
  for (const item of spans) facts = withSpan(facts, item)
  if (facts === undefined) throw new Error('no span')
  return summaryOf(facts)
}
