/** Lines that several threads look for are those that one finds, in the same order. `npm run build` first. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type * as Parallel from '../../src/query/files/parallel-lines.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { findLogs, readLines } from '../../src/query/logs/find-logs.ts'

// A thread runs what is compiled.
const { linesInParallel }: typeof Parallel = await import(
  new URL('../../dist/src/query/files/parallel-lines.js', import.meta.url).href
)

const folder = mkdtempSync(join(tmpdir(), 'throughline-parallel-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const lengths = [0, 3, 40, 900, 5_000, 70_000]
const lines = Array.from({ length: 4_000 }, (_, n) =>
  n % 97 === 5
    ? ['not json', '', '[1]', '{"level":50,"torn'][n % 4]
    : JSON.stringify({
        n,
        level: n % 40 === 0 ? 50 : 30,
        padding: 'x'.repeat(n % 100 === 0 ? (lengths[(n / 100) % 6] ?? 0) : n % 60),
      }),
)
const halves = [lines.slice(0, 1_500), lines.slice(1_500)]
const files = halves.map((half, index) => {
  const path = join(folder, `${index}.ndjson`)
  // The last line of the first has no end, and of the second lines end in the other way.
  const text = half.join(index === 0 ? '\n' : '\r\n')
  writeFileSync(path, text)
  return { path, bytes: Buffer.byteLength(text) }
})

const FILTERS = [
  'level = error',
  'level = error or n in (1, 1499, 1500, 3999)',
  'n >= 0',
  'not (level = info)',
  "padding ~ 'xxxxx' and n < 20",
]

async function inParallel(
  filterText: string,
  options: { sliceBytes: number; threads: number },
  searched = files,
) {
  const tally = { files: 0, unreadableLines: 0 }
  const filter = parseFilter(filterText)
  const found: unknown[] = []
  for await (const { entry, isFound } of readLines(linesInParallel(searched, { filter, tally, ...options }), {
    filter,
    tally,
  }))
    if (isFound) found.push(entry.n)
  return { found, unreadable: tally.unreadableLines }
}

async function byOne(filterText: string) {
  const tally = { files: 0, unreadableLines: 0 }
  const found: unknown[] = []
  const query = { paths: files.map(({ path }) => path), filter: parseFilter(filterText), tally }
  for await (const { entry } of findLogs(query)) found.push(entry.n)
  return { found, unreadable: tally.unreadableLines }
}

describe('lines that several threads look for', () => {
  it.each(FILTERS)('are those that one finds by %s', async (filter) => {
    const expected = await byOne(filter)
    expect(expected.unreadable).toBeGreaterThan(20)
    for (const sliceBytes of [977, 4_096, 65_536, 1_000_000])
      for (const threads of [0, 1, 3])
        expect({ sliceBytes, threads, ...(await inParallel(filter, { sliceBytes, threads })) }).toEqual({
          ...{ sliceBytes, threads },
          ...expected,
        })
  })

  it('begin and end where slices do, at any byte', async () => {
    const path = join(folder, 'small.ndjson')
    const text = '{"n":1}\n{"n":22}\r\n\n{"n":333}'
    writeFileSync(path, text)
    const searched = [{ path, bytes: Buffer.byteLength(text) }]
    for (let sliceBytes = 1; sliceBytes <= text.length + 1; sliceBytes += 1)
      expect(await inParallel('n > 0', { sliceBytes, threads: 0 }, searched)).toEqual({
        found: [1, 22, 333],
        unreadable: 0,
      })
  })

  it('may be left after the first, and may be of a file that is gone', async () => {
    const tally = { files: 0, unreadableLines: 0 }
    const filter = parseFilter('level = error')
    for await (const line of linesInParallel(files, { filter, tally, sliceBytes: 1_000, threads: 2 })) {
      expect(JSON.parse(line).level).toBe(50)
      break
    }
    const gone = { path: join(folder, 'gone'), bytes: 10_000 }
    const { found } = await inParallel('level = error', { sliceBytes: 1_000, threads: 1 }, [gone, ...files])
    expect(found).toEqual((await byOne('level = error')).found)
  })

  it('are refused as one refuses them: a file that may not be read', async () => {
    const directory = { path: folder, bytes: 10_000 }
    for (const searched of [[directory], [...files, directory]])
      await expect(
        inParallel('level = error', { sliceBytes: 1_000, threads: 2 }, searched),
      ).rejects.toMatchObject({
        code: 'FILES_UNREADABLE',
      })
  })
})
