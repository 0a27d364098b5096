/** The command keeps a bounded number of lines in memory, whatever the size of the files. */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

/** What the whole process may have taken at most, in megabytes. */
const MAX_MEGABYTES = 300

/** Twice and more of that, were all of it kept: as text and as objects. */
const FILE_MEGABYTES = 200

const folder = mkdtempSync(join(tmpdir(), 'throughline-memory-'))
const file = join(folder, 'app.ndjson')
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const block = Array.from({ length: 5_000 }, (_, n) =>
  JSON.stringify({
    level: n % 100 === 0 ? 50 : 30,
    time: 1_795_000_000_000 + n,
    correlation_id: n.toString(16).padStart(32, '0'),
    route: `/r${n % 9}`,
    duration_ms: n % 977,
    padding: 'x'.repeat(200),
    msg: `step ${n}`,
  }),
).join('\n')

const descriptor = openSync(file, 'w')
for (let bytes = 0; bytes < FILE_MEGABYTES * 1e6; bytes += block.length) writeSync(descriptor, `${block}\n`)
closeSync(descriptor)

// Tells at the end what the process took at most, in kilobytes.
const meter = join(folder, 'meter.mjs')
const told = join(folder, 'told')
writeFileSync(
  meter,
  `import { writeFileSync } from 'node:fs'
   process.on('exit', () => writeFileSync(${JSON.stringify(told)}, String(process.resourceUsage().maxRSS)))`,
)

describe('the memory of throughline logs', () => {
  it.each([
    ['all lines', ['--json']],
    ['one ID', ['--correlation', '0'.repeat(28).concat('0abc')]],
    ['a filter that finds much', ['level = info', '--json']],
    ['a filter that finds little', ["msg = 'step 7'"]],
    ['the last lines', ['-n', '10000', '--json']],
    ['lines in their context', ['level = error', '-C', '20', '--json']],
    ['counted lines', ['--count-by', 'route,level']],
    ['counted lines, by a regular expression', ["msg ~~ '7$'", '--count-by', 'route']],
    ['percentiles', ['--p95', 'duration_ms', '--by', 'route']],
    ['SQL', ['--sql', 'SELECT route, avg(duration_ms) FROM logs GROUP BY ALL']],
    ['lines as CSV', ['level = error', '--csv']],
  ])('is bounded for %s', (_, args) => {
    const { status } = spawnSync(process.execPath, ['--import', meter, MAIN, 'logs', ...args, file], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, THROUGHLINE_DIR: folder },
    })
    expect(status).toBe(0)
    expect(Number(readFileSync(told, 'utf8')) / 1e3).toBeLessThan(MAX_MEGABYTES)
  })
})
