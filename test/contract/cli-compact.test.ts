/** Runs `throughline compact` as people do, and asks what it leaves. `npm run build` first. */
import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const START = Date.UTC(2026, 10, 24, 10)
const ID = '4bf92f3577b34da6a3ce929d0e0e4736'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function entryOf(index: number): Record<string, unknown> {
  return {
    level: [20, 30, 'error', 40, 50][index % 5],
    time: START + index * 1000,
    correlation_id: index % 7 === 0 ? ID : `other-${index}`,
    ...(index % 3 === 0 ? { err: { digest: String(index), message: 'größe "x" \\ 1' } } : {}),
    msg: `step ${index}`,
  }
}

const entries = Array.from({ length: 400 }, (_, index) => entryOf(index))

/** Two processes' files, whose lines take turns, closed an hour ago. */
function logFolder(extra: Record<string, string | Buffer> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'throughline-compact-'))
  folders.push(folder)
  const linesOf = (odd: number) =>
    entries.filter((_, index) => index % 2 === odd).map((entry) => `${JSON.stringify(entry)}\n`)
  const files = { 'a.ndjson': linesOf(0).join(''), 'b.ndjson': linesOf(1).join(''), ...extra }
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), content)
    const then = new Date(Date.now() - 3_600_000)
    utimesSync(join(folder, name), then, then)
  }
  return folder
}

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8', maxBuffer: 16 * 1024 ** 2 })
}

function found(...args: string[]): unknown[] {
  const { stdout } = run('logs', ...args, '--json')
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

describe('throughline compact', () => {
  it('makes one file of closed ones, by time, which answers as they did', () => {
    const folder = logFolder()
    const { status, stdout } = run('compact', folder)
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: expect.stringContaining('400 lines of 2 files'),
    })
    expect(readdirSync(folder)).toEqual(['a.parquet'])
    expect(found(folder)).toEqual(entries)
    expect(found(`correlation_id = ${ID}`, folder)).toEqual(entries.filter((_, index) => index % 7 === 0))
    expect(found('--correlation', ID, folder)).toEqual(entries.filter((_, index) => index % 7 === 0))
    expect(found('level >= error and exists(err)', folder)).toEqual(
      entries.filter((_, index) => [2, 4].includes(index % 5) && index % 3 === 0),
    )
    expect(found('--digest', '9', folder)).toEqual([entries[9]])
    expect(found("msg ~~ '^step 1\\d$'", folder)).toEqual(entries.slice(10, 20))
    expect(run('logs', 'level = fatal', folder).status).toBe(1)
  })

  it('leaves what throughline trace finds as it was, each line once whichever of its IDs are asked for', () => {
    const [keyHash, digest, other] = ['9c1f4a7be0d2c355', '2338842346', 'a'.repeat(32)]
    const request = { correlation_id: 'order-7', trace_id: ID, idempotency: { key_hash: keyHash } }
    const lines = [
      { time: START, msg: 'placed', ...request },
      { time: START + 1, msg: 'failed', ...request, err: { message: 'no', digest } },
      { time: START + 2, msg: 'sent', ...request, trace_id: other, correlation_id: ID },
      { time: START + 3, msg: 'of another' },
    ]
    const directory = mkdtempSync(join(tmpdir(), 'throughline-compact-'))
    folders.push(directory)
    const folder = logFolder({ 'c.ndjson': lines.map((line) => `${JSON.stringify(line)}\n`).join('') })
    renameSync(folder, join(directory, 'logs'))
    const answers = () =>
      ['order-7', keyHash, digest, other, ID].map((id) => {
        const { traceIds, logs } = JSON.parse(run('trace', id, '--dir', directory, '--json').stdout)
        return {
          id,
          traceIds: traceIds.sort(),
          logs: logs.map(({ message }: { message: string }) => message),
        }
      })
    const before = answers()
    expect(before.slice(0, 4).map(({ logs }) => logs.length)).toEqual([2, 3, 2, 1])
    expect(run('compact', join(directory, 'logs')).status).toBe(0)
    expect(answers()).toEqual(before)
  })

  it('keeps lines that are no JSON, and lines that only JavaScript reads, as text', () => {
    const odd = ['not json', '{"torn":', '{"msg":"half \\ud83d of a pair"}']
    const folder = logFolder({ 'c.ndjson': `${odd.join('\n')}\n{"msg":"whole"}` })
    expect(run('compact', folder).stdout).toContain('3 that are no JSON stay as text')
    expect(readdirSync(folder)).toEqual(['a.parquet', 'a.rest.ndjson'])
    const { stderr } = run('logs', 'msg ~ whole', folder)
    expect(stderr).toContain('2 lines are no JSON')
    expect(found('msg ~ half', folder)).toHaveLength(1)
    // And again: nothing is left to do.
    expect(run('compact', folder).stdout).toContain('nothing to compact')
  })

  it('leaves files that are written to, packed ones, and other bytes than UTF-8', () => {
    const folder = logFolder({ 'd.ndjson': Buffer.from([0x7b, 0xff, 0x7d, 0x0a]), 'e.log.gz': 'x' })
    writeFileSync(join(folder, 'now.ndjson'), '{"msg":"now"}\n')
    const { stdout } = run('compact', folder)
    expect(stdout).toMatch(/d\.ndjson: left as it is, for it has bytes that are no UTF-8/)
    expect(stdout).toMatch(/now\.ndjson: left as it is, for it may still be written to/)
    expect(readdirSync(folder).sort()).toEqual(['a.parquet', 'd.ndjson', 'e.log.gz', 'now.ndjson'])
  })

  it('ends what was interrupted between the copy and the removal, and reads each line once until then', () => {
    const folder = logFolder()
    const whole = logFolder()
    run('compact', whole)
    renameSync(join(whole, 'a.parquet'), join(folder, 'a.parquet'))
    const sources = ['a.ndjson', 'b.ndjson'].map((name) => ({ name, bytes: 1_000_000 }))
    writeFileSync(join(folder, 'compact.journal'), JSON.stringify({ parquet: 'a.parquet', sources }))
    expect(found(folder)).toEqual(entries)
    run('compact', folder)
    expect(readdirSync(folder)).toEqual(['a.parquet'])
    expect(found(folder)).toEqual(entries)
  })

  it('takes a line of 2 MB with the others', () => {
    const long = { level: 30, time: START + 1_000_000, msg: 'ü'.repeat(1024 * 1024) }
    const folder = logFolder({ 'c.ndjson': `${JSON.stringify(long)}\n` })
    expect(run('compact', folder).stdout).toContain('401 lines of 3 files')
    expect(found(folder)).toEqual([...entries, long])
  })

  it('keeps what was written after the copy, of a file too large for Node to read at once', () => {
    const folder = logFolder()
    run('compact', folder)
    const bytes = 2 ** 31
    const grown = join(folder, 'a.ndjson')
    // Without content: a file system keeps no block for it.
    writeFileSync(grown, '')
    truncateSync(grown, bytes)
    appendFileSync(grown, '{"msg":"late"}\n')
    const sources = [{ name: 'a.ndjson', bytes }]
    writeFileSync(join(folder, 'compact.journal'), JSON.stringify({ parquet: 'a.parquet', sources }))
    run('compact', folder)
    expect(readdirSync(folder)).toEqual(['a.parquet', 'a.rest.ndjson'])
    expect(found('msg = late', folder)).toEqual([{ msg: 'late' }])
  })

  it('undoes what was interrupted before the copy was in its place', () => {
    const folder = logFolder({
      'a.rest.ndjson': 'not json\n',
      'a.parquet.new': 'half',
      'a.parquet.staged': 'x',
    })
    writeFileSync(
      join(folder, 'compact.journal'),
      JSON.stringify({ parquet: 'a.parquet', rest: 'a.rest.ndjson', sources: [] }),
    )
    expect(run('logs', folder).stderr).toBe('')
    run('compact', folder)
    expect(readdirSync(folder)).toEqual(['a.parquet'])
    expect(found(folder)).toEqual(entries)
  })

  it('removes compacted files that are older than is kept, and tells before with --dry-run', () => {
    const folder = logFolder()
    expect(run('compact', folder, '--dry-run').stdout).toContain('would compact 2 files')
    expect(readdirSync(folder)).toEqual(['a.ndjson', 'b.ndjson'])
    run('compact', folder)
    expect(run('compact', folder, '--keep', '99999d').stdout).not.toContain('removed')
    writeFileSync(join(folder, 'keep.txt'), '')
    mkdirSync(join(folder, 'within'))
    const { stdout } = run('compact', folder, '--keep', '1s', '--json')
    expect(JSON.parse(stdout)[0].removed).toEqual(
      Date.now() > START + 401_000 ? [join(folder, 'a.parquet')] : [],
    )
  })

  it('refuses a folder that another process compacts', () => {
    const folder = logFolder()
    writeFileSync(join(folder, 'compact.lock'), String(process.pid))
    const { status, stderr } = run('compact', folder)
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining('is being compacted') })
  })
})
