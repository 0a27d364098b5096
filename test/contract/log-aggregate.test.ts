/** Lines counted by DuckDB, and line by line: the same answer. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as zlib from 'node:zlib'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { aggregateFiles } from '../../src/query/duckdb/aggregate-files.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { type Aggregate, type AggregateResult, aggregateLines } from '../../src/query/logs/aggregate.ts'
import { findLogs } from '../../src/query/logs/find-logs.ts'
import { askedFilter, askedLine } from './filters.ts'

const folder = mkdtempSync(join(tmpdir(), 'throughline-aggregate-'))
const file = join(folder, 'app.ndjson')
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const AGGREGATES: Aggregate[] = [
  { kind: 'count', by: [['a']] },
  { kind: 'count', by: [['level'], ['a', 'b']] },
  { kind: 'percentile', field: ['level'], percent: 95, by: [] },
  { kind: 'percentile', field: ['a'], percent: 50, by: [['level']] },
  { kind: 'histogram', bucketMs: 60_000 },
]

/** What stands among the lines of other loggers. */
const ODD = [
  'not json',
  '[1,2]',
  '"text"',
  '',
  '   ',
  '{"level":50,"a":"torn',
  '{"a":1}{"a":2}',
  '{"a":"\\ud800"}',
  '{"level":30,"a":"x","a":"y"}',
]

/** Groups as a set: those of one size stand in any order. */
function unordered(result: AggregateResult): unknown {
  return result.kind === 'histogram'
    ? result
    : { ...result, groups: new Set(result.groups.map((group) => JSON.stringify(group))) }
}

async function both(filter: Parameters<typeof findLogs>[0]['filter'], aggregate: Aggregate, path = file) {
  const tallies = [0, 1].map(() => ({ files: 0, unreadableLines: 0 }))
  const [tally = { files: 0, unreadableLines: 0 }, own = tally] = tallies
  const byDuckdb = await aggregateFiles({ files: [path], filter, aggregate, tally })
  const byLine = await aggregateLines(findLogs({ paths: [path], filter, tally: own }), aggregate)
  return { byDuckdb, byLine, unreadable: [tally.unreadableLines, own.unreadableLines] }
}

describe('an aggregate by DuckDB', () => {
  it('is the same as line by line, or is left to it', async () => {
    let answered = 0
    const line = fc.oneof(
      { weight: 8, arbitrary: askedLine.map((entry) => JSON.stringify(entry)) },
      fc.constantFrom(...ODD),
    )
    await fc.assert(
      fc.asyncProperty(
        ...([
          askedFilter,
          fc.array(line, { minLength: 1, maxLength: 30 }),
          fc.constantFrom(...AGGREGATES),
        ] as const),
        async (filter, lines, aggregate) => {
          writeFileSync(file, lines.map((text) => `${text}\n`).join(''))
          // Too many spans for both.
          const results = await both(filter, aggregate).catch(() => undefined)
          if (results?.byDuckdb === undefined) return
          answered += 1
          expect(unordered(results.byDuckdb)).toEqual(unordered(results.byLine))
          expect(results.unreadable[0]).toBe(results.unreadable[1])
        },
      ),
      { numRuns: 150 },
    )
    expect(answered).toBeGreaterThan(25)
  }, 120_000)

  it('is made of packed files, of torn lines and of times that are texts', async () => {
    const packed = join(folder, 'app.ndjson.gz')
    const lines = Array.from({ length: 5_000 }, (_, n) =>
      n % 1_000 === 7
        ? '{"level":30,"torn'
        : JSON.stringify({
            level: n % 3 === 0 ? 'error' : 30,
            time:
              n % 2 === 0 ? 1_795_000_000_000 + n * 100 : new Date(1_795_000_000_000 + n * 100).toISOString(),
            route: `/r${n % 7}`,
            duration_ms: n % 5 === 0 ? undefined : (n * 7919) % 1_000,
          }),
    )
    writeFileSync(packed, zlib.gzipSync(lines.join('\r\n')))
    const filter = parseFilter('level >= error')
    for (const aggregate of [
      { kind: 'count', by: [['route'], ['level']] },
      { kind: 'percentile', field: ['duration_ms'], percent: 99, by: [['route']] },
      { kind: 'histogram', bucketMs: 1_000 },
    ] satisfies Aggregate[]) {
      const { byDuckdb, byLine, unreadable } = await both(filter, aggregate, packed)
      expect(byDuckdb && unordered(byDuckdb)).toEqual(unordered(byLine))
      expect(unreadable).toEqual([5, 5])
    }
  })
})
