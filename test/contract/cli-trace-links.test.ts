/**
 * Runs `throughline trace` as people do, on traces that link to each other: a child process of the compiled command.
 * `npm run build` first. Spans are written by the package's exporter, and log lines by its logger.
 */
import { spawnSync } from 'node:child_process'
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { type Attributes, ROOT_CONTEXT, type SpanContext, trace } from '@opentelemetry/api'
import { tracing } from '@opentelemetry/sdk-node'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SpanFileExporter } from '../../instrumentation/local-files/index.ts'
import { textWidth } from '../../src/cli/terminal/printable.ts'
import { terminalOf } from '../../src/cli/terminal/terminal.ts'
import { renderTrace } from '../../src/cli/traces/render-trace.ts'
import { createContext, runInContext } from '../../src/context/index.ts'
import { createLogger } from '../../src/logging/index.ts'
import { findTrace } from '../../src/query/traces/find-trace.ts'
import { followLinks, type LinkedTrace } from '../../src/query/traces/linked-traces.ts'
import { buildTraceTrees } from '../../src/query/traces/trace-tree.ts'
import { type IdempotencyUse, showIdempotencyUse } from '../../src/telemetry/idempotency.ts'
import { EVENT } from '../../src/telemetry/names.ts'
import { correlationIdGenerator, correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const START_MS = Date.UTC(2026, 10, 24, 4, 15)
const KEY = '9c1f4a7be0d2c355'

const FIRST = 'a1e2c8d07f6b4c3f9d5e0b1a2c3d4e5f'
const ATTEMPT = '465cb2a6e83f9ab167e8f0584eac5d2d'
const SECOND = '4bf92f3577b34da6a3ce929d0e0e4736'
const NEXT_ATTEMPT = '3a1cfb3d6b6b2e39b525b6a5f9756653'
const THIRD = '72c680cc1b51daa079ae5eefc18968b9'

let directory: string
let provider: tracing.BasicTracerProvider
const log = createLogger({
  destination: { write: (line: string) => appendFileSync(join(directory, 'logs', 'lines.ndjson'), line) },
})

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'throughline-'))
  mkdirSync(join(directory, 'logs'))
  provider = new tracing.BasicTracerProvider({
    idGenerator: correlationIdGenerator(),
    spanProcessors: [
      correlationSpanProcessor(),
      new tracing.BatchSpanProcessor(new SpanFileExporter(directory), { maxQueueSize: 10_000 }),
    ],
  })
})

afterEach(() => rmSync(directory, { recursive: true, force: true }))

describe('throughline trace --follow-links', () => {
  it('shows the first use of a key, its message and its other uses, each with the reason', async () => {
    await writeOrder()
    const { status, stdout, stderr } = run(SECOND, '--follow-links')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(headingsIn(stdout)).toEqual([
      [`trace ${FIRST}  5.00 s before`, '↩ first use of the key, linked from POST /second'],
      [`trace ${ATTEMPT}  4.00 s before`, '↪ an attempt at the message, linked to POST /first (a1e2c8d0)'],
      [
        `trace ${NEXT_ATTEMPT}  1.00 s later`,
        '↪ an attempt at the message, linked to POST /first (a1e2c8d0)',
      ],
      [`trace ${THIRD}  2.00 s later`, '↪ used the key again, linked to POST /first (a1e2c8d0)'],
    ])
    // Each once, and first what was asked for.
    expect(treesIn(stdout)).toEqual([
      ...['POST /second', 'POST /first', 'process payment.charge', 'process payment.charge', 'POST /third'],
    ])
  })

  it('has the log lines of linked traces, but with --no-logs', async () => {
    await writeOrder()
    expect(run(SECOND, '--follow-links').stdout).toContain('info  in POST /first')
    expect(run(SECOND, '--follow-links', '--no-logs').stdout).not.toContain('info  in')
  })

  it('is pointed to, with how many traces, where there are links', async () => {
    await writeOrder()
    const lastLine = (id: string) => run(id).stdout.trimEnd().split('\n').at(-1)
    expect(lastLine(SECOND)).toBe('--follow-links shows 1 linked trace')
    expect(lastLine(THIRD)).toBe('--follow-links shows 1 linked trace')
    expect(lastLine(KEY)).toBe('--follow-links shows 2 linked traces')
    expect(run(SECOND, '--follow-links').stdout).not.toContain('--follow-links')
  })

  it('shows nothing more where there are no links', async () => {
    await write(() => serve({ traceId: FIRST, name: 'alone' }))
    expect(run(FIRST).stdout).not.toContain('--follow-links')
    expect(run(FIRST, '--follow-links').stdout).toBe(run(FIRST).stdout)
  })

  it('does not show again what the ID itself finds', async () => {
    await writeOrder()
    const { stdout } = run(KEY, '--follow-links')
    expect(treesIn(stdout)).toHaveLength(5)
    expect(headingsIn(stdout).map(([, why]) => why)).toEqual([
      ...Array(2).fill('↪ an attempt at the message, linked to POST /first (a1e2c8d0)'),
    ])
  })

  it.each([
    [
      'race',
      EVENT.idempotencyRace,
      'missed the same key at once, linked from',
      'missed the same key at once, linked to',
    ],
    [
      'suspect',
      EVENT.idempotencySuspect,
      'the same payload under another key, linked from',
      'the same payload under another key, linked to',
    ],
    ['message', EVENT.outboxSent, 'sent the message, linked from', 'an attempt at the message, linked to'],
    [
      'attempt',
      EVENT.outboxPreviousAttempt,
      'the attempt before, linked from',
      'the attempt after, linked to',
    ],
    ['other', 'batch', 'linked from', 'linked to'],
  ])(
    'says for a link of kind %s why a trace is there, from both ends',
    async (reason, attribute, from, to) => {
      await write(() => {
        const linked = serve({ traceId: FIRST, name: 'earlier' })
        serve({ traceId: SECOND, startMs: 10, name: 'later', links: [[linked, { [attribute]: true }]] })
      })
      expect(headingsIn(run(SECOND, '--follow-links').stdout)).toEqual([
        [`trace ${FIRST}  10.0 ms before`, `↩ ${from} later`],
      ])
      expect(headingsIn(run(FIRST, '--follow-links').stdout)).toEqual([
        [`trace ${SECOND}  10.0 ms later`, `↪ ${to} earlier`],
      ])
      expect(documentOf(FIRST).linked).toMatchObject([
        { via: { direction: 'to', reason, traceId: FIRST, name: 'earlier' } },
      ])
    },
  )

  it('says of a trace that is not in the files that it is not, after those that are', async () => {
    await write(() => {
      const there = serve({ traceId: FIRST, name: 'there' })
      serve({ traceId: SECOND, startMs: 10, name: 'asked', links: [[{ ...there, traceId: THIRD }], [there]] })
    })
    const { status, stdout } = run(SECOND, '--follow-links')
    expect(status).toBe(0)
    expect(stdout).toMatch(
      new RegExp(
        `\n\ntrace ${FIRST} [^]*\n\ntrace ${THIRD}\n↩ linked from asked\nIts spans are not in the files.\n$`,
      ),
    )
  })

  it('goes three steps, each trace once though links run in a circle, and tells what lies beyond', async () => {
    const ids = Array.from({ length: 6 }, (_, index) => `${index}`.repeat(32).replace(/^0/, 'f'))
    await write(() => {
      let before: SpanContext | undefined
      for (const [index, traceId] of ids.entries()) {
        const back: GivenLink[] = before === undefined ? [] : [[before]]
        before = serve({ traceId, startMs: index, name: `step ${index}`, links: back })
      }
      // The last one's neighbour, and the first one's: a ring of seven.
      const first = spanIn(ids[0] ?? '')
      if (before !== undefined)
        serve({ traceId: THIRD, startMs: 9, name: 'joint', links: [[first], [before]] })
    })
    const distances = documentOf(ids[0] ?? '').linked.map(({ traceId, distance }) => [traceId, distance])
    expect(distances).toEqual([
      ...[
        [ids[1], 1],
        [THIRD, 1],
      ],
      ...[
        [ids[2], 2],
        [ids[5], 2],
      ],
      ...[
        [ids[3], 3],
        [ids[4], 3],
      ],
    ])
    expect(run(ids[0] ?? '', '--follow-links').stdout).not.toContain('left out')

    await write(() => serve({ traceId: SECOND, name: 'far', links: [[spanIn(ids[3] ?? '')]] }))
    const { stdout } = run(ids[0] ?? '', '--follow-links')
    expect(treesIn(stdout)).not.toContain('far')
    expect(stdout).toMatch(
      /\n\n1 or more linked traces left out: 20 are shown at most, up to 3 steps away\.\n$/,
    )
  })

  it('shows twenty traces, the oldest uses of a key first, and tells how many are left out', async () => {
    await write(() => {
      const first = serve({ traceId: FIRST, name: 'first' })
      const again = { [EVENT.idempotencyHit]: true }
      for (let index = 30; index > 0; index -= 1)
        serve({ traceId: idOfUse(index), startMs: index, name: `use ${index}`, links: [[first, again]] })
    })
    const { stdout } = run(FIRST, '--follow-links')
    expect(treesIn(stdout).slice(1)).toEqual(Array.from({ length: 20 }, (_, index) => `use ${index + 1}`))
    expect(stdout).toContain('10 or more linked traces left out: 20 are shown')
    expect(documentOf(FIRST)).toMatchObject({ linked: { length: 20 }, linkedLeftOut: 10 })
  })

  it('keeps no more spans and lines of linked traces than its limits, and says so', async () => {
    await writeOrder()
    const found = await findTrace(directory, SECOND)
    if (found.kind !== 'found') throw new Error(found.kind)
    const all = await followLinks(directory, found)
    expect(all).toMatchObject({ linked: { length: 4 }, leftOut: 0, isTruncated: false })
    const few = await followLinks(directory, found, { maxSpans: 3, maxLogs: 2 })
    expect(few.isTruncated).toBe(true)
    expect(few.linked.flatMap(({ spans }) => spans)).toHaveLength(3)
    expect(few.linked.flatMap(({ logs }) => logs)).toHaveLength(2)
  })

  it('prints with --json what is linked, and why', async () => {
    await writeOrder()
    const { linked, ...document } = documentOf(SECOND)
    expect(document).toMatchObject({ foundBy: 'correlation', traceIds: [SECOND], linkedLeftOut: 0 })
    expect(linked).toMatchObject([
      {
        ...{ traceId: FIRST, distance: 1, spans: { length: 2 }, logs: { length: 1 } },
        via: { direction: 'from', reason: 'key', traceId: SECOND, name: 'POST /second' },
      },
      {
        ...{ traceId: ATTEMPT, distance: 2, spans: { length: 1 } },
        via: { direction: 'to', reason: 'message', traceId: FIRST, name: 'POST /first' },
      },
      { traceId: NEXT_ATTEMPT, distance: 2, via: { reason: 'message' } },
      { traceId: THIRD, distance: 2, via: { reason: 'key' } },
    ])
    expect(JSON.parse(run(SECOND, '--json').stdout)).not.toHaveProperty('linked')
  })

  it('fits the terminal, but for whole IDs, and gives it nothing to obey', async () => {
    const evil = `${'注文 '.repeat(60)}\x1b[31m\u202e`
    await write(() => {
      const linked = serve({ traceId: FIRST, name: evil })
      serve({ traceId: SECOND, startMs: 10, name: evil, links: [[linked]] })
    })
    for (const columns of [40, 80, 120]) {
      for (const line of (await rendered(SECOND, columns)).split('\n')) {
        expect(line).not.toMatch(/\p{Cc}|\u202e/u)
        if (!line.includes(FIRST) && !line.includes(SECOND))
          expect(textWidth(line)).toBeLessThanOrEqual(columns)
      }
    }
  })
})

describe('what the package writes', () => {
  it('is found by the hash of a key: its first use, then those that repeat it', async () => {
    await writeOrder()
    const { status, stdout } = run(KEY)
    expect(status).toBe(0)
    expect(stdout).toMatch(new RegExp(`^key          ${KEY}  3 traces\n`))
    expect(treesIn(stdout)).toEqual(['POST /first', 'POST /second', 'POST /third'])
    expect(documentOf(KEY)).toMatchObject({ id: KEY, foundBy: 'key', traceIds: [FIRST, SECOND, THIRD] })
  })

  it('is found by the digest of an error that reached Next', async () => {
    const err = Object.assign(new Error('no such order'), { digest: '2338842346' })
    const request = { traceId: FIRST, name: 'GET /orders/[id]', correlationId: 'order-7' }
    await write(() => serve(request, () => log.error({ err }, 'request error')))
    const { status, stdout } = run('2338842346')
    expect(status).toBe(0)
    expect(stdout).toMatch(
      new RegExp(`^digest       2338842346\ntrace        ${FIRST}\ncorrelation  order-7\n`),
    )
    expect(stdout).toContain('error  request error')
  })
})

/** A click, the same twice again, and two attempts at the message that the first one sent. */
async function writeOrder(): Promise<void> {
  const won = { outcome: 'won', isHit: false } as const
  const sent = { [EVENT.outboxSent]: true }
  const before = { [EVENT.outboxPreviousAttempt]: true }
  await write(() => {
    const first = serve({ traceId: FIRST, name: 'POST /first', use: won })
    const origin = { traceId: FIRST, spanId: first.spanId, correlationId: FIRST }
    const again = (hits: number) => ({ outcome: 'replay', isHit: true, hits, origin }) as const
    const message = { name: 'process payment.charge', correlationId: FIRST }
    const failed = serve({ ...message, traceId: ATTEMPT, startMs: 1000, links: [[first, sent]] })
    serve({ traceId: SECOND, startMs: 5000, name: 'POST /second', use: again(1) })
    serve({
      ...message,
      traceId: NEXT_ATTEMPT,
      startMs: 6000,
      links: [
        [first, sent],
        [failed, before],
      ],
    })
    serve({ traceId: THIRD, startMs: 7000, name: 'POST /third', use: again(2) })
  })
}

type GivenLink = [to: SpanContext, attributes?: Attributes]

interface GivenTrace {
  traceId: string
  /** Of its first span. */
  name: string
  /** Default: the trace ID. */
  correlationId?: string
  /** From the start of the test's day. */
  startMs?: number
  links?: GivenLink[]
  use?: Pick<IdempotencyUse, 'outcome' | 'isHit' | 'hits' | 'origin'>
}

/** A trace of one span with a log line, and of another that used the key. */
function serve(given: GivenTrace, body = () => log.info(`in ${given.name}`)): SpanContext {
  const { traceId, name, correlationId = traceId, startMs = 0, links = [], use } = given
  const startTime = START_MS + startMs
  return runInContext(createContext({ correlationId, traceId }), () => {
    const tracer = provider.getTracer('test')
    const given = links.map(([context, attributes = {}]) => ({ context, attributes }))
    const first = tracer.startSpan(name, { startTime, links: given }, ROOT_CONTEXT)
    if (use !== undefined) {
      const inner = tracer.startSpan('createOrder', { startTime }, trace.setSpan(ROOT_CONTEXT, first))
      showIdempotencyUse(inner, { ...use, keyHash: KEY, store: 'memory' })
      inner.end(startTime + 3)
    }
    body()
    first.end(startTime + 5)
    return first.spanContext()
  })
}

/** A span that another trace may link to. */
function spanIn(traceId: string): SpanContext {
  return { traceId, spanId: '1'.repeat(16), traceFlags: 1 }
}

function idOfUse(index: number): string {
  return `${index}`.padStart(32, 'a')
}

/** Runs what makes spans, and has them written. */
async function write(makeSpans: () => void): Promise<void> {
  makeSpans()
  await provider.forceFlush()
}

/** Runs the command on the test's directory. */
function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'trace', ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, TZ: 'UTC', THROUGHLINE_DIR: directory },
  })
  return { status, stdout, stderr }
}

function documentOf(id: string): { linked: LinkedTrace[]; linkedLeftOut: number } {
  return JSON.parse(run(id, '--follow-links', '--json').stdout)
}

/** What is printed, for a terminal of that many columns. */
async function rendered(id: string, columns: number): Promise<string> {
  const found = await findTrace(directory, id)
  if (found.kind !== 'found') throw new Error(found.kind)
  const trees = buildTraceTrees(found.spans, found.logs)
  const terminal = terminalOf({ isTTY: true, columns }, {}, true)
  return stripVTControlCharacters(renderTrace(found, trees, terminal, await followLinks(directory, found)))
}

/** Of each linked trace, its heading and why it is there. */
function headingsIn(stdout: string): string[][] {
  return [...stdout.matchAll(/^(trace .*)\n([↩↪] .*)$/gm)].map(([, heading = '', why = '']) => [heading, why])
}

/** Names of the traces' first spans, from the top down. */
function treesIn(stdout: string): string[] {
  const [, ...parts] = stdout.split('\n\n')
  return parts.flatMap((part) => /^(?!trace|[↩↪]|--|\d)(\S.*?)(?: ⚑| {2}|$)/m.exec(part)?.[1] ?? [])
}
