/**
 * Runs the command as people do: a child process of the compiled `dist/src/cli/main.js`, which
 * `npm run build` makes. Uses of keys are shown by the package's own code and written by its exporter.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import { ROOT_CONTEXT, type Span, trace } from '@opentelemetry/api'
import { tracing } from '@opentelemetry/sdk-node'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { SpanFileExporter } from '../../instrumentation/local-files/index.ts'
import { renderKey } from '../../src/cli/keys/render-key.ts'
import { renderKeys } from '../../src/cli/keys/render-keys.ts'
import { textWidth } from '../../src/cli/terminal/printable.ts'
import { terminalOf } from '../../src/cli/terminal/terminal.ts'
import { watchRecipe } from '../../src/clients/kv/recipe.ts'
import { runWithCorrelation } from '../../src/context/index.ts'
import { findKey, listKeys } from '../../src/query/keys/idempotency-keys.ts'
import { readKeyUses } from '../../src/query/keys/key-uses.ts'
import { type IdempotencyUse, showIdempotencyUse } from '../../src/telemetry/idempotency.ts'
import { hashKey } from '../../src/telemetry/key-hash.ts'
import { ATTRIBUTE } from '../../src/telemetry/names.ts'
import { correlationIdGenerator, correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'

const ORDER = '9c1f4a7be0d2c355'
const PAYMENT = '9c1f0000deadbeef'
const SEAT = '41aa02c94b1d77e0'

const FIRST = 'a1e2c8d07f6b4c3f9d5e0b1a2c3d4e5f'
const SECOND = '4bf92f3577b34da6a3ce929d0e0e4736'
const THIRD = '72c680cc1b51daa079ae5eefc18968b9'

const FOURTH = '80139e2b3056220d4713a99d59dc8239'

const DAY_MS = 86_400_000
const START_MS = Date.UTC(2026, 10, 24, 4, 15, 0, 123)

let directory: string
let provider: tracing.BasicTracerProvider

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'throughline-'))
  vi.useFakeTimers({ toFake: ['Date'] })
  startProvider()
})

afterEach(async () => {
  vi.useRealTimers()
  await provider.shutdown()
  rmSync(directory, { recursive: true, force: true })
})

describe('throughline keys', () => {
  it('lists the keys that were used again, the last used first', async () => {
    await writeShop()
    const { status, stdout, stderr } = run('keys')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toBe(
      `
action       key               hits            first use  last use, UTC        outcomes
pay          9c1f0000deadbeef     1             04:16:00  2026-11-24 04:16:40  won 1 · mismatch 1
createOrder  9c1f4a7be0d2c355     2  2026-11-23 04:15:00  2026-11-24 04:15:09  won 1 · replay 2
`.slice(1),
    )
  })

  it('lists keys that were used once with --all, and flags a suspected repeat', async () => {
    await writeShop()
    const { stdout } = run('keys', '--all')
    expect(stdout).toContain(PAYMENT)
    expect(stdout).toMatch(new RegExp(`^reserveSeat +${SEAT} +0 .*⚑ suspect · won 1$`, 'm'))
  })

  it('lists keys of one action only with --action, and as many as -n says', async () => {
    await writeShop()
    expect(hashesIn(run('keys', '--action', 'createOrder').stdout)).toEqual([ORDER])
    const { stdout } = run('keys', '-n', '1')
    expect(hashesIn(stdout)).toEqual([PAYMENT])
    expect(stdout).toContain('1 more: -n 2 shows all.')
  })

  it('counts a use once that stands on two spans, and a batch that was written twice', async () => {
    await writeShop()
    const { stdout } = run('keys')
    const folder = join(directory, 'traces')
    for (const file of readdirSync(folder)) copyFileSync(join(folder, file), join(folder, `again-${file}`))
    expect(run('keys').stdout).toBe(stdout)
  })

  it('counts each of several keys of one request, though its first span shows the last one only', async () => {
    await write(() => {
      request(FIRST, 0, 'createOrder', { keyHash: ORDER, outcome: 'replay', isHit: true, hits: 7 })
      request(
        SECOND,
        1000,
        'pay',
        { keyHash: ORDER, outcome: 'replay', isHit: true, hits: 8, ageMs: 1000 },
        { keyHash: PAYMENT, outcome: 'busy', isHit: true },
      )
    })
    const found = await listKeys(directory, { limit: 9 })
    expect(found).toMatchObject({
      keys: expect.arrayContaining([
        expect.objectContaining({ keyHash: ORDER, hits: 8, outcomes: { replay: 2 } }),
        expect.objectContaining({ keyHash: PAYMENT, hits: 1, outcomes: { busy: 1 } }),
      ]),
    })
  })

  it('counts each retry that a caller makes inside one trace, though no count tells busy uses apart', async () => {
    const busy = { keyHash: ORDER, outcome: 'busy', isHit: true } as const
    await write(() => {
      for (const startMs of [0, 1000, 2000]) request(FIRST, startMs, 'createOrder', busy)
    })
    expect(await findKey(directory, ORDER)).toMatchObject({
      key: { hits: 3, outcomes: { busy: 3 } },
      uses: [{ timeMs: START_MS + 10 }, { timeMs: START_MS + 1010 }, { timeMs: START_MS + 2010 }],
    })
  })

  it('counts a hit whose event did not fit in its span', async () => {
    startProvider({ eventCountLimit: 0 })
    await writeShop()
    expect(run('keys').stdout).toContain('won 1 · replay 2')
  })

  it('counts a key of a recipe that was seen in KV traffic', async () => {
    const key = `idempotency:${directory}`
    await write(() => {
      kvRequest(FIRST, 0, { command: 'SET', key, reply: 'OK' })
      kvRequest(SECOND, 2000, { command: 'GET', key, reply: 'order 7' })
      kvRequest(THIRD, 4000, { command: 'SET', key, reply: null })
    })
    const { stdout } = run('keys')
    expect(stdout).toMatch(new RegExp(`^createOrder +${hashKey(key)} +2 .* replay 1 · busy 1$`, 'm'))
    expect(run('keys', hashKey(key)).stdout).toMatch(new RegExp(`first use +- +createOrder +${FIRST}$`, 'm'))
  })

  it('names a guarded route, and outside of both the request', async () => {
    const again = { keyHash: ORDER, outcome: 'replay', isHit: true, hits: 1 } as const
    await write(() => {
      request(FIRST, 0, undefined, again, { spanName: 'route createPayment' })
      request(SECOND, 0, undefined, { ...again, keyHash: SEAT }, { spanName: 'executing api route' })
    })
    expect(run('keys').stdout).toMatch(/^createPayment /m)
    expect(run('keys').stdout).toMatch(/^POST \/checkout /m)
  })

  it('says that the first use was before what the files have, when nothing tells of it', async () => {
    await write(() => request(FIRST, 0, 'pay', { keyHash: ORDER, outcome: 'busy', isHit: true }))
    expect(run('keys').stdout).toContain('before 04:15:00')
    expect(run('keys', ORDER).stdout).toContain('The first use is not in the files')
  })

  it('says where it looked and what to do when no key was used again, exit 1', async () => {
    await write(() => request(FIRST, 0, 'pay', { keyHash: ORDER, outcome: 'won', isHit: false }))
    const { status, stdout, stderr } = run('keys')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain('no key was used again')
    expect(stderr).toContain(`${directory}: 1 span files`)
    expect(stderr).toContain('1 key was used once: --all')
  })

  it('says what to check when the files have no key at all, exit 1', () => {
    const { status, stdout, stderr } = run('keys', '--dir', join(directory, 'nowhere'))
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain('nowhere: 0 span files')
    expect(stderr).toContain('--dir or THROUGHLINE_DIR')
  })

  it('names the actions that have keys when the one asked for has none, exit 1', async () => {
    await writeShop()
    const { status, stderr } = run('keys', '--action', 'createOder')
    expect(status).toBe(1)
    expect(stderr).toContain('Actions that have some: createOrder, pay')
  })

  it('prints one JSON document with --json', async () => {
    await writeShop()
    const document = JSON.parse(run('keys', '--json', '-n', '1').stdout)
    expect(document).toEqual({
      keys: [
        {
          ...{ keyHash: PAYMENT, action: 'pay', hits: 1, isFirstUseKnown: true, isSuspect: false },
          ...{ firstUseMs: START_MS + 60_010, lastUseMs: START_MS + 100_010 },
          outcomes: { won: 1, mismatch: 1 },
        },
      ],
      ...{ total: 2, isTruncated: false, unreadableLines: 0 },
    })
  })

  it('lets go of the earliest uses when there are more than fit, and says so', async () => {
    await writeShop()
    const { uses, isTruncated } = await readKeyUses(directory, ATTRIBUTE.idempotencyKeyHash, 2)
    expect(uses.map((use) => use.keyHash)).toEqual([PAYMENT, SEAT])
    expect(isTruncated).toBe(true)
  })

  it('has help with examples', () => {
    const { status, stdout } = run('keys', '--help')
    expect(status).toBe(0)
    expect(stdout).toMatch(/Examples:\n {2}\$ throughline keys/)
  })

  it.each([
    [['-n', '0']],
    [['-n', 'x']],
    [['--colour']],
    [['9c1']],
    [['nothex']],
    [[`${ORDER}0`]],
    [[ORDER, SEAT]],
    [[ORDER, '--all']],
    [[ORDER, '--action', 'pay']],
  ])('takes %j for a usage error, exit 2, with nothing on stdout', (args) => {
    const { status, stdout, stderr } = run('keys', ...args)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toContain('throughline keys --help')
  })
})

describe('throughline keys <hash>', () => {
  it('shows each use of the key, the oldest first', async () => {
    await writeShop()
    const { status, stdout, stderr } = run('keys', ORDER)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toBe(
      `
key          9c1f4a7be0d2c355
used again   2 times
outcomes     won 1 · replay 2
times        UTC

2026-11-23 04:15:00.133   first use  won     createOrder  a1e2c8d07f6b4c3f9d5e0b1a2c3d4e5f
2026-11-24 04:15:00.133  24 h 0 min  replay  createOrder  4bf92f3577b34da6a3ce929d0e0e4736
2026-11-24 04:15:09.133  24 h 0 min  replay  createOrder  72c680cc1b51daa079ae5eefc18968b9
2026-11-24 04:18:20.133  24 h 3 min  won     reserveSeat  80139e2b3056220d4713a99d59dc8239
    ⚑ suspect: the same payload came again, under key 41aa02c94b1d77e0
`.slice(1),
    )
  })

  it('tells the first use from a later one when its own span is not in the files', async () => {
    await write(() => {
      const origin = { traceId: FIRST, spanId: '1'.repeat(16), correlationId: FIRST }
      const hit = { keyHash: ORDER, outcome: 'replay', isHit: true, origin } as const
      request(SECOND, 5000, 'createOrder', { ...hit, hits: 1, ageMs: 3000 })
      request(THIRD, 6000, 'createOrder', { ...hit, hits: 2, ageMs: 4000 })
    })
    const { stdout } = run('keys', ORDER)
    expect(stdout.split('\n\n')[1]).toBe(
      `
2026-11-24 04:15:02.133  first use  -       createOrder  ${FIRST}
    told by a later use: no span in the files shows it
2026-11-24 04:15:05.133     3.00 s  replay  createOrder  ${SECOND}
2026-11-24 04:15:06.133     4.00 s  replay  createOrder  ${THIRD}
`.slice(1),
    )
    expect(JSON.parse(run('keys', ORDER, '--json').stdout)).toMatchObject({
      key: { keyHash: ORDER, hits: 2, firstUseMs: START_MS + 2010, isFirstUseKnown: true },
      uses: [{ traceId: FIRST, isToldLater: true }, { traceId: SECOND, hits: 1 }, { traceId: THIRD }],
    })
  })

  it('marks a use that is suspected to repeat another key', async () => {
    await writeShop()
    expect(run('keys', SEAT).stdout).toMatch(
      new RegExp(`won +reserveSeat +${FOURTH}\n +⚑ suspect: the same payload .* under key ${ORDER}\n`),
    )
  })

  it('shows a first use under another key that is suspected to repeat this one, and does not count it', async () => {
    const won = { outcome: 'won', isHit: false, hits: 0, ageMs: 0 } as const
    await write(() => {
      request(FIRST, 0, 'reserveSeat', { keyHash: ORDER, ...won })
      request(SECOND, 5000, 'reserveSeat', { keyHash: SEAT, ...won, suspect: { keyHash: ORDER } })
    })
    const { stdout } = run('keys', ORDER)
    expect(stdout).toContain('used again   0 times\noutcomes     won 1\n')
    expect(stdout.split('\n\n')[1]).toBe(
      `
2026-11-24 04:15:00.133  first use  won  reserveSeat  ${FIRST}
2026-11-24 04:15:05.133     5.00 s  won  reserveSeat  ${SECOND}
    ⚑ suspect: the same payload came again, under key ${SEAT}
`.slice(1),
    )
    expect(JSON.parse(run('keys', ORDER, '--json').stdout)).toMatchObject({
      uses: [{ traceId: FIRST }],
      suspects: [{ keyHash: SEAT, traceId: SECOND, suspectKeyHash: ORDER }],
    })
  })

  it('finds the same by the beginning of the hash, in either case', async () => {
    await writeShop()
    const { stdout } = run('keys', ORDER)
    for (const prefix of ['9c1f4', ORDER.toUpperCase()]) expect(run('keys', prefix).stdout).toBe(stdout)
  })

  it('names the hashes when several begin alike, exit 1', async () => {
    await writeShop()
    const { status, stdout, stderr } = run('keys', '9c1f')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain(`  ${PAYMENT}\n  ${ORDER}\n`)
  })

  it('says where it looked when no key has the hash, exit 1', async () => {
    await writeShop()
    const { status, stdout, stderr } = run('keys', 'ffff')
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
    expect(stderr).toContain('"ffff"')
    expect(stderr).toContain(`${directory}: 1 span files`)
    expect(stderr).toContain('keys --all')
  })
})

describe('what strangers wrote', () => {
  const EVIL = '\x1b]0;owned\x07\x1b[31m\x9b2J\u202etxt\u2066\r\n\x00\u2028\u{e0041}end'

  it('is neutralised in the table, the timeline, the messages and --json', async () => {
    await write(() => {
      const outcome = EVIL as IdempotencyUse['outcome']
      const suspect = { keyHash: EVIL }
      request(FIRST, 0, EVIL, { keyHash: ORDER, outcome, isHit: false, suspect })
      request(SECOND, 0, EVIL, { keyHash: ORDER, outcome, isHit: true })
      request(THIRD, 0, EVIL, { keyHash: `${ORDER}${EVIL}`, outcome, isHit: true })
    })
    const outputs = [
      run('keys'),
      run('keys', ORDER),
      run('keys', '9c1f4'),
      run('keys', '--json'),
      run('keys', '--action', 'none'),
      run('keys', '--action', EVIL.replaceAll('\x00', '')),
    ]
    expect(outputs[0]?.stdout).toContain('\\x1b]0;owned')
    for (const { stdout, stderr } of outputs) {
      expect(stdout + stderr).not.toBe('')
      expect(stdout + stderr).not.toMatch(COMMANDS)
    }
  })
})

describe('the terminal', () => {
  it('gets colours; a pipe, NO_COLOR and --no-color do not', async () => {
    await writeShop()
    for (const render of [renderedTable, renderedTimeline]) {
      expect(await render({ isTTY: true, columns: 100 }, {})).toContain('\x1b[')
      expect(await render({ isTTY: true, columns: 100 }, { NO_COLOR: '1' })).not.toContain('\x1b')
      expect(await render({ columns: 100 }, { FORCE_COLOR: '1' })).not.toContain('\x1b')
    }
    expect(run('keys', '--no-color').status).toBe(0)
  })

  it('gets an action by its whole name, and outcomes on a line of their own where they do not fit beside it', async () => {
    const won = { outcome: 'won', isHit: false } as const
    const again = ['busy', 'replay', 'mismatch', 'takeover', 'unknown'] as const
    await write(() => {
      request(FIRST, 0, 'createOrder', { keyHash: ORDER, ...won })
      for (const [index, outcome] of again.entries())
        request(SECOND, index, 'createOrder', { keyHash: ORDER, outcome, isHit: true, hits: index + 1 })
      request(THIRD, 8, 'pay', { keyHash: SEAT, ...won })
      request(FOURTH, 9, 'pay', { keyHash: SEAT, outcome: 'replay', isHit: true, hits: 1 })
    })
    const lines = stripVTControlCharacters(await renderedTable({ isTTY: true, columns: 100 }, {})).split('\n')
    expect(lines[0]).toMatch(/ outcomes$/)
    expect(lines[1]).toMatch(/^pay .* won 1 · replay 1$/)
    expect(lines[2]).toMatch(/^createOrder .* 04:15:00$/)
    expect(lines[3]).toBe('    won 1 · busy 1 · replay 1 · mismatch 1 · takeover 1 · unknown 1')
  })

  it('gets no line wider than it is, but for whole IDs', async () => {
    await write(() => {
      const action = '注文を作成 🛒 '.repeat(20)
      request(FIRST, 0, action, { keyHash: ORDER, outcome: 'won', isHit: false })
      request(SECOND, 0, action, { keyHash: ORDER, outcome: 'replay', isHit: true, hits: 1 })
    })
    for (const columns of [40, 60, 72, 80, 110, 200]) {
      const texts = [
        await renderedTable({ isTTY: true, columns }, {}),
        await renderedTimeline({ isTTY: true, columns }, {}),
      ]
      for (const line of stripVTControlCharacters(texts.join('')).split('\n')) {
        if (!line.includes(FIRST) && !line.includes(SECOND))
          expect(textWidth(line)).toBeLessThanOrEqual(columns)
      }
      expect(texts[1]).toContain(SECOND)
    }
  })
})

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

/** What a terminal obeys; all output may have of it are line ends. */
const COMMANDS = /(?!\n)\p{Cc}|[\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u{e0000}-\u{e007f}]/u

/** Runs the command on the test's directory. */
function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, TZ: 'UTC', THROUGHLINE_DIR: directory },
  })
  return { status, stdout, stderr }
}

type TerminalOf = Parameters<typeof terminalOf>

async function renderedTable(stream: TerminalOf[0], env: TerminalOf[1]): Promise<string> {
  const found = await listKeys(directory, { limit: 50 })
  if (found.kind !== 'found') throw new Error(found.kind)
  return renderKeys(found, terminalOf(stream, env, true))
}

async function renderedTimeline(stream: TerminalOf[0], env: TerminalOf[1]): Promise<string> {
  const found = await findKey(directory, ORDER)
  if (found.kind !== 'found') throw new Error(found.kind)
  return renderKey(found, terminalOf(stream, env, true))
}

function hashesIn(table: string): string[] {
  return table.match(/\b[0-9a-f]{16}\b/g) ?? []
}

function startProvider(spanLimits: tracing.SpanLimits = {}): void {
  provider = new tracing.BasicTracerProvider({
    idGenerator: correlationIdGenerator(),
    spanLimits,
    spanProcessors: [
      correlationSpanProcessor(),
      new tracing.BatchSpanProcessor(new SpanFileExporter(directory)),
    ],
  })
}

/** What a use says of itself, without what only counters need. */
type GivenUse = Omit<IdempotencyUse, 'store'>

/** Runs what makes spans, and has them written. */
async function write(makeSpans: () => void): Promise<void> {
  makeSpans()
  await provider.forceFlush()
}

/** A request that uses keys: its first span, and a span for each use, which starts 10 ms later. */
function request(
  traceId: string,
  startMs: number,
  action: string | undefined,
  ...given: (GivenUse | { spanName: string })[]
): void {
  const spanName = given.find((item) => 'spanName' in item)?.spanName ?? `action ${action}`
  const uses = given.filter((item) => 'keyHash' in item)
  inRequest(traceId, startMs, action, (startSpan) => {
    for (const use of uses) {
      const span = startSpan(spanName)
      if (action !== undefined) span.setAttribute(ATTRIBUTE.actionName, action)
      showIdempotencyUse(span, { ...use, store: 'memory' })
      span.end(Date.now())
    }
  })
}

/** A request whose action sends one KV command. */
function kvRequest(traceId: string, startMs: number, reply: Parameters<typeof watchRecipe>[1]): void {
  inRequest(traceId, startMs, 'createOrder', (startSpan) => {
    const span = startSpan(reply.command)
    watchRecipe(span, reply, 'redis')
    span.end(Date.now())
  })
}

function inRequest(
  traceId: string,
  startMs: number,
  action: string | undefined,
  serve: (startSpan: (name: string) => Span) => void,
): void {
  runWithCorrelation(traceId, () => {
    const tracer = provider.getTracer('test')
    const first = tracer.startSpan('POST /checkout', { startTime: START_MS + startMs }, ROOT_CONTEXT)
    if (action !== undefined) first.setAttribute(ATTRIBUTE.actionName, action)
    vi.setSystemTime(START_MS + startMs + 10)
    serve((name) => tracer.startSpan(name, { startTime: Date.now() }, trace.setSpan(ROOT_CONTEXT, first)))
    first.end(Date.now() + 10)
  })
}

/** An order that was placed three times, a payment whose key came with another payload, a suspected repeat. */
async function writeShop(): Promise<void> {
  const origin = { traceId: FIRST, spanId: '1'.repeat(16), correlationId: FIRST }
  const won = { outcome: 'won', isHit: false, hits: 0, ageMs: 0 } as const
  const replay = { keyHash: ORDER, outcome: 'replay', isHit: true, origin } as const
  await write(() => {
    request(FIRST, -DAY_MS, 'createOrder', { keyHash: ORDER, ...won })
    request(SECOND, 0, 'createOrder', { ...replay, hits: 1, ageMs: DAY_MS })
    request(THIRD, 9000, 'createOrder', { ...replay, hits: 2, ageMs: DAY_MS + 9000 })
    request('1'.repeat(32), 60_000, 'pay', { keyHash: PAYMENT, ...won })
    request('2'.repeat(32), 100_000, 'pay', {
      ...{ keyHash: PAYMENT, outcome: 'mismatch', isHit: true, hits: 1, ageMs: 40_000 },
      origin: { ...origin, traceId: '1'.repeat(32) },
    })
    request(FOURTH, 200_000, 'reserveSeat', { keyHash: SEAT, ...won, suspect: { keyHash: ORDER } })
  })
}
