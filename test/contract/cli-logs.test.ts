/** Runs `throughline logs` as people do: a child process of the compiled command. `npm run build` first. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as zlib from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../support/eventually.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

const directory = mkdtempSync(join(tmpdir(), 'throughline-logs-'))
const FIRST = '4bf92f3577b34da6a3ce929d0e0e4736'
const SECOND = '72c680cc1b51daa079ae5eefc18968b9'
const START = Date.UTC(2026, 10, 24, 10)

type Entry = Record<string, unknown>

/** Lines as an app writes them, and what is unlike them in each. */
function corpus(count: number): Entry[] {
  return Array.from({ length: count }, (_, index) => ({
    level: [20, 30, 30, 40, 50][index % 5],
    time: START + index * 1000,
    service: 'shop',
    correlation_id: index % 7 === 0 ? FIRST : `other-${index}`,
    ...(index % 3 === 0 ? { action: index % 2 === 0 ? 'createOrder' : 'cancelOrder' } : {}),
    ...(index % 4 === 0 ? { status: index % 8 === 0 ? 500 : '200', duration_ms: index * 1.5 } : {}),
    ...(index % 10 === 0
      ? { err: { type: 'Error', message: `timed out ${index}`, digest: `d${index}` } }
      : {}),
    msg: index % 6 === 0 ? 'Request completed' : `step ${index}`,
  }))
}

const entries = corpus(500)
const ndjson = (lines: readonly Entry[]) => lines.map((line) => `${JSON.stringify(line)}\n`).join('')

beforeAll(() => {
  mkdirSync(join(directory, 'logs'))
  writeFileSync(join(directory, 'logs/2026-11-24.1.ndjson'), ndjson(entries.slice(0, 250)))
  writeFileSync(join(directory, 'logs/2026-11-24.2.ndjson'), ndjson(entries.slice(250)))
  mkdirSync(join(directory, 'rotated'))
  writeFileSync(join(directory, 'rotated/app.log.2.gz'), zlib.gzipSync(ndjson(entries.slice(0, 200))))
  const { zstdCompressSync } = zlib as { zstdCompressSync?: (text: string) => Buffer }
  const rest = ndjson(entries.slice(200, 400))
  if (zstdCompressSync !== undefined)
    writeFileSync(join(directory, 'rotated/app.log.3.zst'), zstdCompressSync(rest))
  else writeFileSync(join(directory, 'rotated/app.log.3'), rest)
  writeFileSync(join(directory, 'rotated/app.log.4'), ndjson(entries.slice(400)))
  writeFileSync(join(directory, 'rotated/notes.txt'), 'no log\n')
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** What a filter must find, said in JavaScript by hand. */
const ANSWERS: [string, (line: Entry & { err?: { message: string; digest: string } }) => boolean][] = [
  ['level >= warn', ({ level }) => Number(level) >= 40],
  [
    'action = createOrder and not status = 500',
    ({ action, status }) => action === 'createOrder' && status !== 500,
  ],
  ['status in (500, 200)', ({ status }) => status !== undefined],
  ['duration_ms > 250 or exists(err)', ({ duration_ms: ms, err }) => Number(ms) > 250 || err !== undefined],
  ["msg ~ 'COMPLETED'", ({ msg }) => msg === 'Request completed'],
  ["err.message ~~ 'out \\d0$'", ({ err }) => /out \d0$/.test(err?.message ?? '')],
  ['time >= 2026-11-24T10:05:00Z', ({ time }) => Number(time) >= START + 300_000],
  ['correlation_id != other-1', ({ correlation_id: id }) => id !== 'other-1'],
]

describe('throughline logs', () => {
  it.each(ANSWERS)('finds for %s what JavaScript finds', (filter, isFound) => {
    const { status, stdout, stderr } = run(['logs', filter, '--json'])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(linesOf(stdout)).toEqual(entries.filter(isFound))
  })

  it.each(ANSWERS)('finds for %s the same in rotated and packed files', (filter, isFound) => {
    const { stdout } = run(['logs', filter, join(directory, 'rotated'), '--json'])
    expect(linesOf(stdout)).toEqual(entries.filter(isFound))
  })

  it('finds by the options what they name, with a filter and without', () => {
    const json = (...args: string[]) => linesOf(run(['logs', ...args, '--json']).stdout)
    const ofFirst = entries.filter(({ correlation_id: id }) => id === FIRST)
    expect(json('--correlation', FIRST)).toEqual(ofFirst)
    expect(json('level = error', '--correlation', FIRST)).toEqual(ofFirst.filter(({ level }) => level === 50))
    expect(json('--digest', 'd70')).toEqual([entries[70]])
    expect(json('--action', 'cancelOrder')).toEqual(entries.filter(({ action }) => action === 'cancelOrder'))
    expect(json('--since', '2026-11-24T10:08:00Z', '--until', '2026-11-24T10:08:03Z')).toEqual(
      entries.slice(480, 483),
    )
    expect(json('-n', '3')).toEqual(entries.slice(-3))
    expect(json('level = error', '-n', '1')).toEqual([entries[499]])
  })

  it('finds in large files, with lines that are none among them', () => {
    const large = join(directory, 'large.ndjson')
    const padding = 'x'.repeat(20_000)
    const wide: Entry[] = entries.map((line) => ({ ...line, padding }))
    const broken = ['not json\n', '\n', '[1]\n', '\0\n'].join('')
    writeFileSync(large, ndjson(wide.slice(0, 300)) + broken + ndjson(wide.slice(300)))
    for (const [filter, isFound] of ANSWERS) {
      const { stdout, stderr } = run(['logs', filter, large, '--json'])
      expect(linesOf(stdout)).toEqual(wide.filter(isFound))
      expect(stderr).toBe('throughline: 3 lines are no JSON and were left out.\n')
    }
    const ahead = run(['logs', "msg ~~ '^step (?=1)'", large, '--json'])
    expect(linesOf(ahead.stdout)).toEqual(wide.filter(({ msg }) => String(msg).startsWith('step 1')))
    expect(run(['logs', 'duration_sm = 5', large]).stderr).toContain('Did you mean "duration_ms"?')
  })

  it('reads standard input', () => {
    const { stdout } = run(['logs', 'level = error', '-', '--json'], ndjson(entries))
    expect(linesOf(stdout)).toEqual(entries.filter(({ level }) => level === 50))
    expect(linesOf(run(['logs', '-', '--json'], ndjson(entries)).stdout)).toEqual(entries)
  })

  it('shows lines for people, with the stack of an error below and nothing that a terminal obeys', () => {
    const line = {
      level: 50,
      time: START,
      correlation_id: FIRST,
      msg: 'it \u001b[31mfailed',
      route: '/orders/[id]',
      status: 500,
      err: { type: 'Error', message: 'not yet', stack: 'Error: not yet\n    at pay (app.ts:1:2)' },
    }
    const { stdout } = run(['logs', '-'], ndjson([line]), { TZ: 'UTC' })
    expect(stdout).toBe(
      [
        '2026-11-24 10:00:00.000  error  4bf92f35  it \\x1b[31mfailed  route=/orders/[id] status=500',
        '    Error: not yet',
        '    at pay (app.ts:1:2)',
        '',
      ].join('\n'),
    )
    const chosen = run(['logs', '-', '--fields', 'status,err.message'], ndjson([line])).stdout
    expect(chosen).toContain('failed  status=500 err.message="not yet"\n')
  })

  it('folds frames of packages and of Node in a stack, between those of the app', () => {
    const frame = (at: string) => `    at ${at}`
    const stack = [
      'Error: no',
      frame('pay (/srv/app/actions.ts:1:2)'),
      frame('AsyncLocalStorage.run (node:async_hooks:1:2)'),
      frame('ContextAPI.with (/srv/node_modules/@opentelemetry/api/build/context.js:51:46)'),
      frame('async handle (/srv/node_modules/next/dist/server.js:1:2)'),
      frame('/srv/node_modules/next/dist/tracer.js:1:2'),
      frame('async checkout (/srv/app/page.tsx:3:4)'),
      frame('node:internal/process/task_queues:103:5'),
      'caused by: at all costs',
    ].join('\n')
    const { stdout } = run(
      ['logs', '-'],
      ndjson([{ level: 50, time: START, err: { type: 'Error', message: 'no', stack } }]),
    )
    expect(stdout.split('\n').slice(1)).toEqual([
      '    Error: no',
      '    at pay (/srv/app/actions.ts:1:2)',
      '    … 4 frames of node, @opentelemetry/api, next',
      '    at async checkout (/srv/app/page.tsx:3:4)',
      '    at node:internal/process/task_queues:103:5',
      '    caused by: at all costs',
      '',
    ])
  })

  it('counts what is no JSON, and loses nothing beside it', () => {
    const huge = { level: 30, msg: 'x'.repeat(5_000_000) }
    const input = [
      `${JSON.stringify(entries[0])}\r\n`,
      'not json\n',
      '\0\0\0\n',
      '\n',
      '[1, 2]\n',
      `${JSON.stringify(huge)}\n`,
      '{"level":30,"msg":"torn"',
    ].join('')
    const { status, stdout, stderr } = run(['logs', '-', '--json'], input)
    expect(status).toBe(0)
    expect(linesOf(stdout)).toEqual([entries[0], huge])
    expect(stderr).toBe('throughline: 4 lines are no JSON and were left out.\n')
  })

  it('says where a filter does not parse, with a mark below, and what was expected', () => {
    const { status, stdout, stderr } = run(['logs', 'level >= and status = 500'])
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toBe(
      [
        'throughline: the filter does not parse:',
        '  level >= and status = 500',
        '           ^^^',
        "  expected a value; in quotes, 'and' is one.",
        'See: throughline logs --help',
        '',
      ].join('\n'),
    )
  })

  it.each([
    [['logs', 'level = fatal'], 1, /no line found.*2 files/s],
    [
      ['logs', 'duration_sm > 5 and err.mesage = a'],
      1,
      /None of the first 1000 lines has a field "duration_sm". Did you mean "duration_ms"\?[\s\S]*"err.message"/,
    ],
    [['logs', 'zzz = 5'], 1, /None of the first 1000 lines has a field "zzz"\.\n/],
    [['logs', 'level = fatal', join(directory, 'nowhere')], 1, /nowhere cannot be read/],
    [['logs', '-n', '0'], 2, /whole number/],
    [['logs', '--since', 'soon'], 2, /15m, 2h or 3d ago/],
    [['logs', '--fields', 'a b'], 2, /commas between/],
    [['logs', '--count-by', 'a', '--histogram', '1m'], 2, /name one/],
    [['logs', '--by', 'route'], 2, /--by groups a percentile/],
    [['logs', '--histogram', 'often'], 2, /30s, 1m, 1h, 1d/],
  ])('ends %j with %i, and says why', (args, status, message) => {
    const result = run(args)
    expect(result.status).toBe(status)
    expect(result.stderr).toMatch(message)
  })

  it('counts by the values of fields, the most first', () => {
    const { stdout } = run(['logs', '--count-by', 'action,level', '--json'])
    const groups = JSON.parse(stdout) as { values: { action?: string; level: string }; count: number }[]
    for (const { values, count } of groups)
      expect(count).toBe(
        entries.filter(({ action, level }) => action === values.action && String(level) === values.level)
          .length,
      )
    expect(groups.reduce((sum, { count }) => sum + count, 0)).toBe(500)
    expect(groups.map(({ count }) => count)).toEqual(groups.map(({ count }) => count).sort((a, b) => b - a))
    const text = run(['logs', '--count-by', 'action', '-n', '2']).stdout
    expect(text).toBe(
      [
        'action       lines',
        `-              333  ${'━'.repeat(30)}`,
        `createOrder     84  ${'━'.repeat(8)}`,
        '1 more: -n 3 shows all.',
        '',
      ].join('\n'),
    )
  })

  it('says percentiles, by the values of fields', () => {
    const numbers = (status: unknown) =>
      entries
        .filter((line) => line.status === status)
        .map((line) => Number(line.duration_ms))
        .sort((a, b) => a - b)
    const { stdout } = run(['logs', '--p95', 'duration_ms', '--by', 'status', '--json'])
    const expected = [500, '200'].map((status) => {
      const all = numbers(status)
      return {
        values: { status: String(status) },
        count: all.length,
        percentile: all[Math.ceil(0.95 * all.length) - 1],
      }
    })
    expect(JSON.parse(stdout)).toEqual(expected.sort((a, b) => Number(b.percentile) - Number(a.percentile)))
    expect(run(['logs', '--p50', 'duration_ms']).stdout).toMatch(
      /^p50 duration_ms +lines\n +3\d\d(?:\.\d+)? +125 +━{30}\n$/,
    )
  })

  it('shows how many lines came when', () => {
    const buckets = JSON.parse(run(['logs', 'level = error', '--histogram', '1m', '--json']).stdout)
    expect(buckets).toHaveLength(9)
    expect(buckets[0]).toEqual({ startMs: START, count: 12 })
    expect(run(['logs', 'level = error', '--histogram', '1m'], '', { TZ: 'UTC' }).stdout).toMatch(
      /^2026-11-24 10:00:00 +12 +━{30}$/m,
    )
  })

  it('finds the last lines by reading files from their ends', () => {
    const file = join(directory, 'tail.ndjson')
    const lines = Array.from({ length: 700 }, (_, n) => ({
      level: n % 50 === 3 ? 50 : 30,
      n,
      padding: 'x'.repeat(20_000),
    }))
    writeFileSync(file, ndjson(lines))
    const packed = join(directory, 'rotated/app.log.2.gz')
    for (const count of [1, 14, 100, 700, 10_000])
      expect(linesOf(run(['logs', file, '-n', String(count), '--json']).stdout)).toEqual(lines.slice(-count))
    const errors = [...entries.slice(0, 200), ...lines].filter(({ level }) => level === 50)
    for (const count of [3, 14, 20, 1_000])
      expect(
        linesOf(run(['logs', 'level = error', packed, file, '-n', String(count), '--json']).stdout),
      ).toEqual(errors.slice(-count))
  })

  it('finds any number of last lines in a packed file', () => {
    const file = join(directory, 'many.ndjson.gz')
    const lines = Array.from({ length: 300_000 }, (_, n) => `{"n":${n}}\n`)
    writeFileSync(file, zlib.gzipSync(lines.join('')))
    expect(run(['logs', file, '-n', '250000', '--json']).stdout === lines.slice(-250_000).join('')).toBe(true)
  })

  it('shows each line among those of its request with -C, marked', () => {
    const request = (id: string, n: number, level = 30) => ({
      level,
      time: START + n,
      correlation_id: id,
      msg: `${id} ${n}`,
    })
    const lines = [
      request('a', 1),
      request('b', 2),
      request('a', 3, 50),
      request('b', 4),
      request('a', 5),
      request('a', 6),
    ]
    const { stdout } = run(['logs', 'level = error', '-C', '1', '-'], ndjson(lines), { TZ: 'UTC' })
    expect(stdout).toBe(
      [
        '  2026-11-24 10:00:00.001  info   a         a 1',
        '› 2026-11-24 10:00:00.003  error  a         a 3',
        '  2026-11-24 10:00:00.005  info   a         a 5',
        '',
      ].join('\n'),
    )
    const two = run(['logs', 'level = error or msg ~ b', '-C', '1', '-'], ndjson(lines)).stdout
    expect(two.match(/^\n/gm)).toHaveLength(1)
    const json = run(['logs', 'level = error', '-C', '5', '-', '--json'], ndjson(lines)).stdout
    expect(linesOf(json)).toEqual(lines.filter(({ correlation_id: id }) => id === 'a'))
  })

  it('writes CSV that a spreadsheet takes for text, not for formulas', () => {
    const line = {
      ...{ level: 50, time: START, correlation_id: FIRST, msg: '=HYPERLINK("x")', route: 'a, "b"' },
      err: { message: 'first\nsecond \u001b[31m' },
    }
    expect(run(['logs', '-', '--csv'], ndjson([line])).stdout).toBe(
      [
        'time,level,msg,service,correlation_id,trace_id,action,route,method,status,duration_ms,err.message',
        `2026-11-24T10:00:00.000Z,error,"'=HYPERLINK(""x"")",,${FIRST},,,"a, ""b""",,,,"first\nsecond \\x1b[31m"`,
        '',
      ].join('\n'),
    )
    expect(run(['logs', '-', '--csv', '--fields', 'route,none'], ndjson([line])).stdout).toContain(
      'time,level,msg,route,none\n',
    )
    expect(run(['logs', '--count-by', 'action', '--csv']).stdout).toBe(
      'action,lines\n,333\ncreateOrder,84\ncancelOrder,83\n',
    )
    expect(run(['logs', '--p50', 'duration_ms', '--csv']).stdout).toMatch(
      /^p50 duration_ms,lines\n\d+(?:\.\d+)?,125\n$/,
    )
    expect(run(['logs', 'level = error', '--histogram', '10m', '--csv']).stdout).toBe(
      'start,lines\n2026-11-24T10:00:00.000Z,100\n',
    )
  })

  it('answers SQL over what a filter finds', () => {
    const sql = 'SELECT level, count(*) AS lines, max(time) AS latest FROM logs GROUP BY ALL ORDER BY level'
    const expected = ['debug', 'error', 'info', 'warn'].map((level, index) => {
      const lines = entries.filter((line) => line.level === [20, 50, 30, 40][index])
      const latest = new Date(Number(lines.at(-1)?.time)).toISOString().slice(0, 19).replace('T', ' ')
      return { level, lines: lines.length, latest }
    })
    expect(linesOf(run(['logs', '--sql', sql, '--json']).stdout)).toEqual(expected)
    expect(linesOf(run(['logs', join(directory, 'rotated'), '--sql', sql, '--json']).stdout)).toEqual(
      expected,
    )
    expect(linesOf(run(['logs', '-', '--sql', sql, '--json'], ndjson(entries)).stdout)).toEqual(expected)
    expect(linesOf(run(['logs', 'level >= error', '--sql', sql, '--json']).stdout)).toEqual(
      expected.filter(({ level }) => level === 'error'),
    )
    const columns = `SELECT msg, status, duration_ms, digest, error, json->>'$.err.type' AS type FROM logs WHERE digest = 'd0'`
    expect(run(['logs', '--sql', columns]).stdout).toBe(
      [
        'msg                status  duration_ms  digest  error        type',
        'Request completed     500            0  d0      timed out 0  Error',
        '',
      ].join('\n'),
    )
    expect(run(['logs', '--sql', 'SELECT action, 1.5 AS n FROM logs LIMIT 1', '--csv']).stdout).toBe(
      'action,n\ncreateOrder,1.5\n',
    )
    expect(run(['logs', '--sql', 'SELECT 1 FROM logs WHERE false'])).toMatchObject({ status: 1, stdout: '' })
  })

  it('counts for SQL, too, what is no JSON', () => {
    const sql = 'SELECT count(*) AS n FROM logs'
    const { stdout, stderr } = run(['logs', join(directory, 'large.ndjson'), '--sql', sql, '--json'])
    expect({ stdout, stderr }).toEqual({
      stdout: '{"n":500}\n',
      stderr: 'throughline: 3 lines are no JSON and were left out.\n',
    })
  })

  it.each([
    [`COPY logs TO '${join(directory, 'stolen.csv')}'`, /Cannot access/],
    [
      `COPY logs TO '${join(directory, 'logs/2026-11-24.1.ndjson')}' (USE_TMP_FILE false)`,
      /COPY and EXPORT write files/,
    ],
    ["SELECT 1; COPY (SELECT 1) TO '/tmp/x.csv'", /Cannot access/],
    ["SELECT * FROM read_csv('/etc/passwd')", /Cannot access file "\/etc\/passwd"/],
    ['SET enable_external_access = true', /locked/],
    ['INSTALL httpfs', /Cannot access/],
    [`ATTACH '${join(directory, 'x.db')}'`, /Cannot access/],
    [
      'SELECT nonsense FROM logs',
      /Referenced column "nonsense" not found[\s\S]*\n {2}LINE 1: SELECT nonsense FROM logs\n {17}\^/,
    ],
    ['SELEC', /syntax error at or near "SELEC"/],
    ['', /no statement/i],
  ])('refuses the SQL %s, reads and writes nothing else, exit 2', (sql, message) => {
    const before = readdirSync(directory)
    const { status, stdout, stderr } = run(['logs', '--sql', sql])
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(readdirSync(directory)).toEqual(before)
    expect(run(['logs', '--count-by', 'service', '--json']).stdout).toContain('"count": 500')
  })

  it('follows files across rotation until it is ended', async () => {
    const logs = join(directory, 'followed/logs')
    mkdirSync(logs, { recursive: true })
    writeFileSync(join(logs, '1.ndjson'), ndjson(entries.slice(0, 100)))
    const args = ['logs', 'level = error', '-f', '-n', '2', '--json', '--dir', join(directory, 'followed')]
    const child = spawn(process.execPath, [MAIN, ...args])
    let stdout = ''
    child.stdout.on('data', (chunk) => {
      stdout += chunk
    })
    const errors = entries.filter(({ level }) => level === 50)
    await eventually(() => expect(linesOf(stdout)).toEqual(errors.slice(18, 20)))
    appendFileSync(join(logs, '1.ndjson'), ndjson(entries.slice(100, 150)))
    writeFileSync(join(logs, '2.ndjson'), ndjson(entries.slice(150, 200)))
    await eventually(() => expect(linesOf(stdout)).toEqual(errors.slice(18, 40)))
    child.kill('SIGINT')
    const [status] = await once(child, 'exit')
    expect(status).toBe(0)
  })

  it.each([
    [['--sql', 'x', '--count-by', 'a'], /name one/],
    [['-f', '--count-by', 'a'], /--follow never ends/],
    [['-f', '-C', '3'], /--context cannot wait/],
    [['-f', '-'], /without --follow/],
    [['-f', '--source', 'loki+http://localhost:1'], /cannot be followed/],
    [['--json', '--csv'], /name one/],
    [['--source', 'loki+http://localhost:1', '--sql', 'x'], /--sql needs files/],
    [['--source', 'loki+http://localhost:1', 'level = error', 'logs'], /name no files/],
    [['-C', '2', '--histogram', '1m'], /--context is of lines/],
  ])('refuses %j, and says why', (args, message) => {
    const { status, stderr } = run(['logs', ...args])
    expect(status).toBe(2)
    expect(stderr).toMatch(message)
  })

  it('explains itself, with examples', () => {
    expect(run(['logs', '--help']).stdout).toContain("$ throughline logs 'level >= warn' --since 15m")
  })

  it('finds an ID that is not there by none of the lines', () => {
    expect(run(['logs', '--correlation', SECOND])).toMatchObject({ status: 1, stdout: '' })
  })
})

function linesOf(stdout: string): unknown[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

function run(args: string[], input = '', env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    env: { ...process.env, THROUGHLINE_DIR: directory, ...env },
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    input,
  })
  return { status, stdout, stderr }
}
