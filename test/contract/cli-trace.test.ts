/**
 * Runs the command as people do: a child process of the compiled `dist/src/cli/main.js`, which
 * `npm run build` makes.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import packageJson from '../../package.json' with { type: 'json' }
import { jaegerUrlOf, linkStyle } from '../../src/cli/terminal/jaeger-link.ts'
import { printable, printableJson, textWidth } from '../../src/cli/terminal/printable.ts'
import { terminalOf } from '../../src/cli/terminal/terminal.ts'
import { renderTrace } from '../../src/cli/traces/render-trace.ts'
import { findTrace } from '../../src/query/traces/find-trace.ts'
import { buildTraceTrees } from '../../src/query/traces/trace-tree.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const KEY_HASH = '9c1f4a7be0d2c355'
const ORIGIN = 'a1e2c8d07f6b4c3f9d5e0b1a2c3d4e5f'
const START_MS = Date.UTC(2026, 10, 24, 4, 15, 0, 123)

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'throughline-'))
  for (const folder of ['traces', 'logs']) mkdirSync(join(directory, folder))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

describe('throughline trace', () => {
  it('prints the spans of a request as a tree, with log lines in between', () => {
    writeCheckout()
    const { status, stdout, stderr } = run('trace', TRACE)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toBe(
      `
trace        4bf92f3577b34da6a3ce929d0e0e4736
correlation  order-7
service      shop
started      2026-11-24T04:15:00.123Z
duration     48.2 ms · ⚑ 1 repeated key · 1 error · 4 spans · 2 log lines

POST /checkout ⚑  303                                                  48.2 ms  ━━━━━━━━━━━━━━━━━━━━
├─ createOrder  app/actions.ts                                         40.0 ms   ━━━━━━━━━━━━━━━━━
│  │  ⚑ idempotency hit ×3  replay · first use 2.10 s before, trace a1e2c8d07f6b4c3f9d5e0b1a2c3d4e5f
│  ├─ GET  redis · cart:7                                              0.40 ms   ╸
│  ├╴ info  order received  items=3 err.message="not really"
│  └─ pg.query:INSERT shop  postgresql · INSERT INTO orders VALUES (…  12.7 ms    ━━━━━
│        ✗ 23505: duplicate key
└╴ warn  slow
`.slice(1),
    )
  })

  it('finds the same by correlation ID and by the beginning of either ID', () => {
    writeCheckout()
    const { stdout } = run('trace', TRACE)
    for (const id of ['order-7', 'order-', '4bf92f', TRACE.toUpperCase()]) {
      expect(run('trace', id).stdout).toBe(stdout)
    }
  })

  it.each([
    ['http://localhost:16686', `http://localhost:16686/trace/${TRACE}`],
    ['https://traces.example.com/jaeger/', `https://traces.example.com/jaeger/trace/${TRACE}`],
  ])('prints the link to Jaeger, whose page THROUGHLINE_JAEGER_URL=%s names', (jaeger, link) => {
    writeCheckout()
    const env = { THROUGHLINE_JAEGER_URL: jaeger }
    expect(run('trace', TRACE, env).stdout).toContain(`\njaeger       ${link}\n`)
    const unknown = 'f'.repeat(32)
    expect(run('trace', unknown, env).stderr).toContain(`In Jaeger:  ${link.replace(TRACE, unknown)},`)
    expect(run('trace', 'no-trace-id', env).stderr).not.toContain('In Jaeger')
  })

  it('prints no link to what is no page', () => {
    for (const jaeger of ['localhost:16686', 'javascript:alert(1)', '\u001b]8;;x', ''])
      expect(jaegerUrlOf({ THROUGHLINE_JAEGER_URL: jaeger })).toBeUndefined()
    const links = { hasLinks: true, jaegerUrl: 'http://localhost:16686' }
    expect(linkStyle(TRACE, links)('4bf9')).toBe(
      `\x1b]8;;http://localhost:16686/trace/${TRACE}\x1b\\4bf9\x1b]8;;\x1b\\`,
    )
    for (const traceId of [undefined, 'order-7', '\u001b\\'.repeat(16), '../'.repeat(11).slice(0, 32)])
      expect(linkStyle(traceId, links)('4bf9')).toBe('4bf9')
    expect(linkStyle(TRACE, { ...links, hasLinks: false })('4bf9')).toBe('4bf9')
  })

  it('names the IDs when several begin alike, exit 1', () => {
    writeSpans([
      span('1', { traceId: `abcdef${'1'.repeat(26)}` }),
      span('1', { traceId: `abcdef${'2'.repeat(26)}` }),
    ])
    const { status, stdout, stderr } = run('trace', 'abcdef')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain(`abcdef${'1'.repeat(26)}\n`)
    expect(stderr).toContain(`abcdef${'2'.repeat(26)}\n`)
  })

  it('shows each trace of a correlation ID on its own scale', () => {
    writeSpans([
      span('1', { name: 'first', attributes: attributes({ 'correlation.id': 'job-1' }) }),
      span('1', {
        name: 'second',
        traceId: ORIGIN,
        startMs: 5000,
        attributes: attributes({ 'correlation.id': 'job-1' }),
      }),
    ])
    const { stdout } = run('trace', 'job-1')
    expect(stdout).toMatch(
      new RegExp(`^trace ${TRACE}\nfirst .*\n\ntrace ${ORIGIN}  5.00 s later\nsecond `, 'm'),
    )
  })

  it('finds by the digest on an error page, and says so', () => {
    writeCheckout()
    writeLogs([{ ...requestError('2338842346'), trace_id: TRACE, span_id: id('2') }])
    const { status, stdout } = run('trace', '2338842346')
    expect(status).toBe(0)
    expect(stdout).toMatch(
      new RegExp(`^digest       2338842346\ntrace        ${TRACE}\ncorrelation  order-7\n`),
    )
    expect(stdout).toContain('├╴ error  request error')
    expect(json('2338842346')).toMatchObject({ id: '2338842346', foundBy: 'digest', spans: { length: 4 } })
  })

  it('finds a line alone by its digest when no trace has it', () => {
    writeLogs([requestError('77'), requestError('770')])
    expect(json('77')).toMatchObject({ traceIds: [], logs: [{ fields: { err: { digest: '77' } } }] })
  })

  it('finds by the hash of a key, in spans, events and log lines, its traces oldest first', () => {
    const [inSpan, inEvent, inLog] = ['a'.repeat(32), 'b'.repeat(32), 'c'.repeat(32)]
    const key = attributes({ 'idempotency.key_hash': KEY_HASH })
    writeSpans([
      span('1', { traceId: inLog, name: 'third', startMs: 2000 }),
      span('1', {
        traceId: inEvent,
        name: 'second',
        startMs: 1000,
        events: [{ name: 'x', attributes: key }],
      }),
      span('1', { traceId: inSpan, name: 'first', attributes: key }),
      span('1', {
        traceId: TRACE,
        name: 'other',
        attributes: attributes({ 'idempotency.key_hash': 'f'.repeat(16) }),
      }),
    ])
    writeLogs([{ msg: 'x', time: START_MS, trace_id: inLog, idempotency: { key_hash: KEY_HASH } }])
    const { status, stdout } = run('trace', KEY_HASH)
    expect(status).toBe(0)
    expect(stdout).toMatch(new RegExp(`^key          ${KEY_HASH}  3 traces\nservice `))
    expect(stdout).toMatch(
      new RegExp(
        `\ntrace ${inSpan}\nfirst .*\n\ntrace ${inEvent}  1.00 s later\nsecond .*\n\ntrace ${inLog}  2.00 s later\nthird `,
      ),
    )
    expect(json(KEY_HASH.toUpperCase())).toMatchObject({
      ...{ id: KEY_HASH, foundBy: 'key', traceIds: [inSpan, inEvent, inLog] },
    })
  })

  it('takes a digest or the hash of a key whole only', () => {
    writeCheckout()
    writeLogs([requestError('2338842346')])
    for (const beginning of ['233884234', KEY_HASH.slice(0, 15)])
      expect(run('trace', beginning)).toMatchObject({ status: 1, stdout: '' })
  })

  it('takes an ID of a request for it before a digest or a hash, and these before the beginning of an ID', () => {
    const [long, same] = [`${KEY_HASH}${'0'.repeat(16)}`, 'b'.repeat(32)]
    const key = attributes({ 'idempotency.key_hash': KEY_HASH })
    const spans = [span('1', { traceId: long, name: 'begins so' })]
    writeSpans(spans)
    expect(json(KEY_HASH)).toMatchObject({ id: long, foundBy: 'trace' })

    writeLogs([{ ...requestError(KEY_HASH), trace_id: ORIGIN }])
    expect(json(KEY_HASH)).toMatchObject({ id: KEY_HASH, foundBy: 'digest', traceIds: [ORIGIN] })

    spans.push(span('1', { traceId: same, attributes: attributes({ 'correlation.id': KEY_HASH }) }))
    writeSpans([...spans, span('1', { attributes: key })])
    expect(json(KEY_HASH)).toMatchObject({ id: KEY_HASH, foundBy: 'correlation', traceIds: [same] })
  })

  it('tells a trace ID that is no correlation ID from one that is', () => {
    writeCheckout()
    expect(json(TRACE)).toMatchObject({ foundBy: 'trace' })
    expect(json('4bf92f')).toMatchObject({ id: TRACE, foundBy: 'trace' })
    writeSpans([span('1', { attributes: attributes({ 'correlation.id': TRACE }) })])
    expect(json(TRACE)).toMatchObject({ foundBy: 'correlation', traceIds: [TRACE] })
  })

  it('shows log lines alone when a request left no spans', () => {
    writeLogs([{ level: 30, time: START_MS, msg: 'lonely', correlation_id: 'order-9' }])
    expect(run('trace', 'order-9').stdout).toContain('info  lonely')
  })

  it('shows that another request missed the same key at once, and which', () => {
    const race = attributes({ 'idempotency.race': true })
    const link = { traceId: ORIGIN, spanId: id('9'), attributes: race }
    writeSpans([span('1', { name: 'POST /pay', attributes: race, links: [link] })])
    const [, said] = run('trace', TRACE).stdout.split(/⚑ |\n\n--/)
    expect(said?.replace(/\s+/g, ' ').trim()).toBe(
      `idempotency race two requests missed the key at once, and both did the work trace ${ORIGIN}`,
    )
  })

  it('leaves log lines out with --no-logs', () => {
    writeCheckout()
    expect(run('trace', TRACE, '--no-logs').stdout).not.toContain('order received')
  })

  it('says what was looked for, where, and what to check when nothing is found, exit 1', () => {
    writeCheckout()
    const { status, stdout, stderr } = run('trace', 'deadbeef')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain('nothing found for "deadbeef"')
    expect(stderr).toContain(`${directory}: 1 span files, 1 log files`)
    expect(stderr).toContain('--dir or THROUGHLINE_DIR')
  })

  it('finds nothing, exit 1, where there is no directory', () => {
    const { status, stderr } = run('trace', TRACE, '--dir', join(directory, 'nowhere'))
    expect(status).toBe(1)
    expect(stderr).toContain('0 span files, 0 log files')
  })

  it('says which file cannot be read, exit 1', () => {
    mkdirSync(join(directory, 'traces', 'spans.ndjson'))
    const { status, stdout, stderr } = run('trace', TRACE)
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toMatch(/spans\.ndjson cannot be read.*EISDIR.*--dir/)
  })

  it.each([
    [['trace']],
    [['trace', '']],
    [['trace', 'a', 'b']],
    [['trace', TRACE, '--colour']],
    [['treace', TRACE]],
    [[]],
  ])('takes %j for a usage error, exit 2, with nothing on stdout', (args) => {
    const { status, stdout, stderr } = run(...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).not.toBe('')
  })

  it('has help with examples, and says its version', () => {
    const help = run('trace', '--help')
    expect(help.status).toBe(0)
    expect(help.stdout).toMatch(/Examples:\n {2}\$ throughline trace/)
    expect(run('--version')).toMatchObject({ status: 0, stdout: `${packageJson.version}\n` })
  })

  it('prints one JSON document with --json', () => {
    writeCheckout()
    const { status, stdout } = run('trace', 'order-7', '--json')
    expect(status).toBe(0)
    const document = JSON.parse(stdout)
    expect(document).toMatchObject({ id: 'order-7', traceIds: [TRACE], correlationIds: ['order-7'] })
    expect(document.spans.map((item: { name: string }) => item.name)).toEqual([
      ...['POST /checkout', 'createOrder', 'GET', 'pg.query:INSERT shop'],
    ])
    expect(document.spans[1]).toMatchObject({ parentSpanId: '1'.padStart(16, '0'), durationMs: 40 })
    expect(document.logs).toHaveLength(2)
  })

  it('shows a span once that was written twice, and says when there is more than fits', async () => {
    writeSpans([span('1'), span('1'), span('2'), span('3')])
    expect(await findTrace(directory, TRACE)).toMatchObject({ spans: { length: 3 }, isTruncated: false })
    expect(await findTrace(directory, TRACE, { maxSpans: 2 })).toMatchObject({
      spans: { length: 2 },
      isTruncated: true,
    })
  })

  it('says how many lines with the ID are torn', () => {
    writeCheckout()
    writeFileSync(join(directory, 'traces', 'torn.ndjson'), `{"resourceSpans":[{"traceId":"${TRACE}`)
    expect(run('trace', TRACE).stdout).toContain('1 line of the files could not be read and is left out.')
  })

  it('stops quietly when the reader closes the pipe', () => {
    writeSpans(Array.from({ length: 5000 }, (_, index) => span(`${index + 1}`, { name: 'x'.repeat(60) })))
    const script = `"$0" "$@" | head -1`
    const { stdout, stderr } = spawnSync(
      'sh',
      ['-c', script, process.execPath, MAIN, 'trace', TRACE, '--dir', directory],
      {
        encoding: 'utf8',
      },
    )
    expect({ stdout, stderr }).toEqual({ stdout: `trace        ${TRACE}\n`, stderr: '' })
  })
})

describe('what strangers wrote', () => {
  const EVIL = '\x1b]0;owned\x07\x1b[31m\x9b2J\u202etxt\u2066\r\n\x00\u2028\u{e0041}end'

  it('is neutralised: escape sequences, controls and bidi marks in every place that is printed', () => {
    writeSpans([
      span('1', {
        name: `name ${EVIL}`,
        status: { code: 2, message: EVIL },
        attributes: attributes({ 'correlation.id': `order-7${EVIL}` }),
      }),
      span('2', {
        parentSpanId: id('1'),
        attributes: attributes({ 'db.system.name': EVIL, 'db.query.text': EVIL }),
      }),
    ])
    writeLogs([
      { level: EVIL, time: START_MS, msg: EVIL, trace_id: TRACE, [EVIL]: EVIL, err: { [EVIL]: { a: EVIL } } },
    ])
    const { status, stdout } = run('trace', TRACE)
    expect(status).toBe(0)
    expect(stdout).toContain('name \\x1b]0;owned\\x07\\x1b[31m\\x9b2J\\u{202e}txt')
    expect(stdout).not.toMatch(COMMANDS)
  })

  it('is neutralised in --json too, which parses to what was written', () => {
    writeSpans([span('1', { name: EVIL })])
    const { stdout } = run('trace', TRACE, '--json')
    expect(stdout).not.toMatch(COMMANDS)
    expect(JSON.parse(stdout).spans[0].name).toBe(EVIL)
  })

  it('is neutralised in the message for an ID that is not found', () => {
    expect(run('trace', `x${EVIL.replaceAll('\x00', '')}`).stderr).not.toMatch(COMMANDS)
  })

  it('never holds a control or bidi character after printable(), and JSON keeps its value', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(printable(text)).not.toMatch(
          /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u,
        )
        expect(JSON.parse(printableJson(JSON.stringify(text)))).toBe(text)
      }),
    )
  })

  it('is found and printed when it is a chain of 10 000 spans', () => {
    writeSpans(
      Array.from({ length: 10_000 }, (_, index) =>
        span(`${index + 1}`, index === 0 ? {} : { parentSpanId: id(`${index}`) }),
      ),
    )
    const { status, stdout } = run('trace', TRACE)
    expect(status).toBe(0)
    expect(stdout.split('\n').length).toBeGreaterThan(10_000)
  })
})

describe('the terminal', () => {
  it('gets no line wider than it is, but for whole IDs', async () => {
    writeCheckout({ name: '注文を作成 🛒 '.repeat(20) })
    for (const width of [40, 60, 72, 80, 110, 200]) {
      for (const line of (await rendered({ isTTY: true, columns: width }, {})).split('\n')) {
        const plain = stripVTControlCharacters(line)
        if (!plain.includes(TRACE) && !plain.includes(ORIGIN))
          expect(textWidth(plain)).toBeLessThanOrEqual(width)
      }
    }
  })

  it('gets the ID of the first use whole, on a line of its own if need be', async () => {
    writeCheckout()
    const narrow = stripVTControlCharacters(await rendered({ isTTY: true, columns: 60 }, {}))
    expect(narrow).toMatch(new RegExp(`^│ {2}│ {4}trace ${ORIGIN}$`, 'm'))
  })

  it('gets colours; a pipe, NO_COLOR and --no-color do not', async () => {
    writeCheckout()
    const terminal = { isTTY: true, columns: 100 }
    expect(await rendered(terminal, {})).toContain('\x1b[')
    expect(await rendered(terminal, { NO_COLOR: '1' })).not.toContain('\x1b')
    expect(await rendered(terminal, {}, false)).not.toContain('\x1b')
    expect(run('trace', TRACE, { FORCE_COLOR: '1', CI: '1' }).stdout).not.toContain('\x1b')
  })

  it('gets ASCII only where its locale is not UTF-8', async () => {
    writeCheckout()
    expect(await rendered({}, { LANG: 'C' })).toMatch(/^[\n -~]*$/)
    expect(await rendered({}, { LANG: 'C', LC_ALL: 'C.UTF-8' })).toContain('├─')
  })
})

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

/** What a terminal obeys; all output may have of it are line ends. */
const COMMANDS = /(?!\n)\p{Cc}|[\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u{e0000}-\u{e007f}]/u

/** Runs the command on the test's directory; an object at the end adds to its environment. */
function run(...given: (string | Record<string, string>)[]) {
  const args = given.filter((item) => typeof item === 'string')
  const env = Object.assign({}, ...given.filter((item) => typeof item === 'object'))
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    env: { PATH: process.env.PATH, TZ: 'UTC', THROUGHLINE_DIR: directory, ...env },
  })
  return { status, stdout, stderr }
}

function json(id: string): unknown {
  return JSON.parse(run('trace', id, '--json').stdout)
}

async function rendered(
  stream: { isTTY?: boolean; columns?: number },
  env: Record<string, string>,
  isColorWanted = true,
): Promise<string> {
  const found = await findTrace(directory, TRACE)
  if (found.kind !== 'found') throw new Error(found.kind)
  return renderTrace(found, buildTraceTrees(found.spans, found.logs), terminalOf(stream, env, isColorWanted))
}

interface GivenSpan {
  links?: unknown[]
  events?: unknown[]
  traceId?: string
  parentSpanId?: string
  name?: string
  startMs?: number
  durationMs?: number
  attributes?: unknown[]
  status?: { code: number; message?: string }
}

/** A span as OTLP/JSON has it; times from the start of the request. */
function span(spanId: string, { startMs = 0, durationMs = 1, ...given }: GivenSpan = {}) {
  return {
    ...{ traceId: TRACE, spanId: id(spanId), name: 'span', kind: 1, attributes: [], events: [], links: [] },
    startTimeUnixNano: nano(startMs),
    endTimeUnixNano: nano(startMs + durationMs),
    ...given,
  }
}

function id(spanId: string): string {
  return spanId.padStart(16, '0')
}

function nano(offsetMs: number): string {
  return String(BigInt(START_MS) * 1_000_000n + BigInt(Math.round(offsetMs * 1e6)))
}

function attributes(values: Record<string, string | number | boolean>): unknown[] {
  return Object.entries(values).map(([key, value]) => ({
    key,
    value:
      typeof value === 'string'
        ? { stringValue: value }
        : typeof value === 'number'
          ? { intValue: value }
          : { boolValue: value },
  }))
}

function writeSpans(spans: unknown[]): void {
  const resource = { attributes: attributes({ 'service.name': 'shop' }) }
  const line = JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans }] }] })
  writeFileSync(join(directory, 'traces', 'spans.ndjson'), `${line}\n`)
}

function writeLogs(entries: object[]): void {
  writeFileSync(
    join(directory, 'logs', 'lines.ndjson'),
    entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''),
  )
}

/** The line that `onRequestError` writes, but for what it has of the request. */
function requestError(digest: string) {
  return { level: 50, time: START_MS + 4, err: { message: 'no stock', digest }, msg: 'request error' }
}

/** A request whose key was used before. */
function writeCheckout({ name = 'POST /checkout' } = {}): void {
  const hit = {
    ...{ 'idempotency.hit': true, 'idempotency.hits': 3, 'idempotency.outcome': 'replay' },
    ...{ 'idempotency.key_hash': KEY_HASH, 'idempotency.age_ms': 2104 },
    'idempotency.origin.trace_id': ORIGIN,
  }
  const insert = 'INSERT INTO orders\n  VALUES ($1, $2)'
  writeSpans([
    span('4', {
      ...{ parentSpanId: id('2'), name: 'pg.query:INSERT shop', startMs: 6, durationMs: 12.7 },
      attributes: attributes({
        'db.system.name': 'postgresql',
        'db.query.text': insert,
        'error.type': '23505',
      }),
      status: { code: 2, message: 'duplicate key' },
    }),
    span('3', {
      ...{ parentSpanId: id('2'), name: 'GET', startMs: 3.6, durationMs: 0.4 },
      attributes: attributes({ 'db.system.name': 'redis', 'db.query.text': 'GET cart:7' }),
    }),
    span('2', {
      ...{ parentSpanId: id('1'), name: 'createOrder', startMs: 3, durationMs: 40 },
      attributes: attributes({
        ...hit,
        'next.server_action.name': 'createOrder',
        'next.server_action.file': 'app/actions.ts',
      }),
    }),
    span('1', {
      ...{ name, durationMs: 48.2 },
      attributes: attributes({ ...hit, 'correlation.id': 'order-7', 'http.status_code': 303 }),
    }),
  ])
  const common = {
    service: 'shop',
    correlation_id: 'order-7',
    trace_id: TRACE,
    trace_flags: 1,
    pid: 1,
    hostname: 'h',
  }
  writeLogs([
    {
      level: 30,
      time: START_MS + 5,
      ...common,
      span_id: id('2'),
      items: 3,
      err: { message: 'not really', stack: 'x' },
      msg: 'order received',
    },
    { level: 40, time: START_MS + 48, ...common, span_id: id('1'), msg: 'slow' },
  ])
}
