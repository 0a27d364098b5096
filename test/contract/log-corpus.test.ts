/**
 * Filters over the lines of pino as other apps set it up, with what lies between such lines on a disk. What they must
 * find is said by jq (https://jqlang.org), each filter written again in its language.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pino from 'pino'
import { afterAll, describe, expect, it } from 'vitest'
import { requireOrSkip } from '../support/required.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const START = Date.UTC(2026, 10, 24, 10)

const folder = mkdtempSync(join(tmpdir(), 'throughline-corpus-'))
const file = join(folder, 'apps.log')
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const hasJq = spawnSync('jq', ['--version']).error === undefined
if (!hasJq) requireOrSkip('jq', 'apt-get install jq')

/** Lines of a real pino with these options, each with its number `n`. */
function written(options: pino.LoggerOptions, write: (log: pino.Logger, n: number) => void): string[] {
  const lines: string[] = []
  const log = pino({ level: 'trace', ...options }, { write: (line: string) => lines.push(line) })
  for (let n = 0; n < 200; n += 1) {
    nowMs = START + numbered * 1_000
    write(log.child({ n: numbered }), n)
    numbered += 1
  }
  return lines
}

let numbered = 0
let nowMs = START

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const
const levelOf = (n: number) => levels[n % levels.length] ?? 'info'
const epoch = () => `,"time":${nowMs}`

/** Set-ups that are found in the wild. */
const APPS: string[][] = [
  // As it comes.
  written({ timestamp: epoch }, (log, n) =>
    log[levelOf(n)]({ status: n % 7 === 0 ? 500 : 200, duration_ms: n * 2.5 }, `request ${n} completed`),
  ),
  // Times as texts, levels as words: what Google's and Datadog's intake want.
  written(
    {
      timestamp: () => `,"time":"${new Date(nowMs).toISOString()}"`,
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
      base: null,
    },
    (log, n) =>
      log[levelOf(n)]({ status: String(n % 7 === 0 ? 500 : 200), route: '/orders/[id]' }, 'Timed Out'),
  ),
  // pino-http: the request and the response, and how long it took.
  written({ timestamp: epoch, messageKey: 'message' }, (log, n) =>
    log[levelOf(n)](
      {
        req: { id: n, method: 'POST', url: `/a?b=${n}`, headers: { 'user-agent': 'k6/0.5 "x"', 'x.y': 'z' } },
        res: { statusCode: n % 5 === 0 ? 503 : 200 },
        responseTime: n,
      },
      n % 5 === 0 ? 'request errored' : 'request completed',
    ),
  ),
  // Errors with causes, digests that are numbers, and text of all kinds.
  written({ timestamp: epoch }, (log, n) => {
    const error = Object.assign(
      new Error(`no "${n}"\n\u0000 é 注文 \u{1f600} \\`, { cause: new TypeError('inner') }),
      {
        digest: n % 2 === 0 ? String(n) : n,
      },
    )
    log.error(
      { err: error, 'weird name': n, 'a.b': 'dotted', a: { b: 'nested', deep: [{ x: n }] } },
      'failed',
    )
  }),
  // A child that says a name again: it stands twice in the line.
  written({ timestamp: epoch }, (log, n) =>
    log
      .child({ status: 200, tenant: 'a' })
      .child({ status: n % 3 === 0 ? 500 : 404 })
      .info({ tenant: n % 2 === 0 ? 'b' : null }, 'twice'),
  ),
  // No message, odd values, a level of its own.
  written({ timestamp: epoch, customLevels: { audit: 35 } }, (log, n) =>
    (log as unknown as pino.Logger<'audit'>).audit({
      ok: n % 2 === 0,
      nothing: null,
      list: [1, 'two', n],
      status: -n / 3,
      big: 1e21,
    }),
  ),
]

/** Between the lines of apps that take turns. */
const BROKEN = [
  'npm warn deprecated',
  '{"level":30,"n":-1,"msg":"torn by a cra',
  '',
  '[{"level":50,"n":-1}]',
  '"level error"',
  '\u0000\u0000\u0000\u0000',
  '{"level":50,"n":-1}{"level":50,"n":-1}',
  '   ',
]

const huge = `{"level":50,"n":${1e6},"padding":"${'\\"x'.repeat(1_700_000)}","status":500,"msg":"five megabytes"}`

const lines = Array.from({ length: 200 }, (_, at) => APPS.flatMap((app) => app[at] ?? [])).flat()
const corpus = lines.flatMap((line, at) => [
  line.trimEnd() + (at % 4 === 0 ? '\r\n' : '\n'),
  ...(at % 90 === 13 ? [`${BROKEN[((at / 90) % BROKEN.length) | 0]}\n`] : []),
  ...(at === 500 ? [`${huge}\n`] : []),
])
writeFileSync(file, `${corpus.join('')}{"level":50,"n":-1,"msg":"the last`)

// jq 1.6's `contains` ends at a NUL.
const DEFINITIONS = `
  def number: if type == "number" then . elif type == "string" and test("^\\\\s*[+-]?([0-9]+\\\\.?[0-9]*|\\\\.[0-9]+)([eE][+-]?[0-9]+)?\\\\s*$")
    then (gsub("\\\\s|^\\\\+"; "") | tonumber) else null end;
  def rank: if type == "string" then ({"trace":10,"debug":20,"info":30,"warn":40,"error":50,"fatal":60}[ascii_downcase] // number) else number end;
  def ms: if type == "string" then ((sub("\\\\.[0-9]+Z$"; "Z") | fromdate) * 1000) else number end;
  def text: if . == null then "" elif type == "string" then . else tostring end;
  def has_text(t): (text | ascii_downcase | index(t)) != null;`

/** A filter, and the same in jq. */
const FILTERS: [string, string][] = [
  ['level >= warn', '(.level | rank) >= 40'],
  ['level = error and status = 500', '(.level | rank) == 50 and (.status | number) == 500'],
  ['level > info and level < error', '(.level | rank) > 30 and (.level | rank) < 50'],
  ['status in (500, 404, 503)', '(.status | number) as $s | any(500, 404, 503; . == $s)'],
  ['status != 200', '.status != null and (.status | number) != 200 or (has("status") and .status == null)'],
  ['status < 0', '(.status | number | . != null and . < 0)'],
  ['duration_ms > 250', '(.duration_ms | number | . != null and . > 250)'],
  [
    'duration_ms > 100.5 and duration_ms <= 300',
    '(.duration_ms | number | . != null and . > 100.5 and . <= 300)',
  ],
  ["msg ~ 'timed out'", '.msg | has_text("timed out")'],
  ["msg ~ 'REQUEST 1'", '.msg | has_text("request 1")'],
  ["msg ~~ '^request [0-9]+ completed$'", '.msg | text | test("^request [0-9]+ completed$")'],
  ["message = 'request errored'", '.message == "request errored"'],
  ['res.statusCode >= 500', '(.res.statusCode? | number | . != null and . >= 500)'],
  ["req.headers.user-agent ~ 'k6'", '.req.headers["user-agent"]? | has_text("k6")'],
  ["req.headers.`x.y` = 'z'", '.req.headers["x.y"]? == "z"'],
  ['exists(err)', 'has("err")'],
  ['not exists(err) and not exists(req)', '(has("err") or has("req")) | not'],
  ["err.message ~ '注文'", '.err.message? | has_text("注文")'],
  ['err.message ~ \'no "17"\'', '.err.message? | has_text("no \\"17\\"")'],
  ["err.stack ~ 'inner'", '.err.stack? | has_text("inner")'],
  ['err.digest = 44', '(.err.digest? | number) == 44'],
  ['err.digest = 45', '(.err.digest? | number) == 45'],
  ['`weird name` >= 190', '(.["weird name"] | number | . != null and . >= 190)'],
  ['a.b = nested', '(.a.b? // .["a.b"]) == "nested"'],
  ['`a.b` = dotted', '.["a.b"] == "dotted"'],
  ['ok = true', '.ok == true or .ok == "true"'],
  ['not (ok = true)', '(.ok == true or .ok == "true") | not'],
  ['tenant = b', '.tenant == "b"'],
  ['tenant = null', 'has("tenant") and .tenant == null'],
  ["route = '/orders/[id]' or tenant = a", '.route == "/orders/[id]" or .tenant == "a"'],
  ['big = 1e21', '.big == 1e21'],
  ['level = 35', '(.level | rank) == 35'],
  [
    'time >= 2026-11-24T10:05:00Z and time < 2026-11-24T10:06:00Z',
    `(.time | ms) >= ${START + 300_000} and (.time | ms) < ${START + 360_000}`,
  ],
  [`time < ${START + 50_000}`, `.time != null and (.time | ms) < ${START + 50_000}`],
  ['padding ~ \'"x"x\'', '.padding | has_text("\\"x\\"x")'],
  ['n >= 0', '(.n | number | . != null and . >= 0)'],
  [
    'status = 500 and (level >= error or not exists(duration_ms))',
    '(.status | number) == 500 and ((.level | rank) >= 50 or (has("duration_ms") | not))',
  ],
]

/** Of the objects alone, as jq reads each line by itself. */
function byJq(condition: string): number[] {
  const program = `${DEFINITIONS} (try fromjson catch null) | select(type == "object") | select(${condition}) | .n`
  const out = execFileSync('jq', ['-R', '-c', program, file], { encoding: 'utf8', maxBuffer: 1e8 })
  return out.split('\n').filter(Boolean).map(Number)
}

function byThroughline(filter: string, path = file) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'logs', filter, path, '--json'], {
    encoding: 'utf8',
    maxBuffer: 1e8,
  })
  const found = stdout.split('\n').filter(Boolean)
  return { status, stderr, found: found.map((line) => Number((JSON.parse(line) as { n: number }).n)) }
}

describe.skipIf(!hasJq)('lines of other apps', () => {
  it.each(FILTERS)('are found by %s as jq finds them', (filter, condition) => {
    const expected = byJq(condition)
    const { status, stderr, found } = byThroughline(filter)
    expect(found).toEqual(expected)
    expect(expected.length).toBeGreaterThan(0)
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: `throughline: ${BROKEN_LINES} lines are no JSON and were left out.\n`,
    })
  })
})

/** Of those written between, all but the empty ones; and the last, which is torn. */
const BROKEN_LINES =
  corpus.filter((line) => BROKEN.some((broken) => broken.trim() !== '' && line === `${broken}\n`)).length + 1
