/** A filter in DuckDB answers as it does in JavaScript, and is no SQL. */
import { DuckDBInstance } from '@duckdb/node-api'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { Filter } from '../../src/query/filter/ast.ts'
import { compileForDuckdb } from '../../src/query/filter/compile-duckdb.ts'
import { matcherOf } from '../../src/query/filter/match.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { rankOf } from '../../src/query/filter/ranks.ts'
import { askedFilter, askedLine } from './filters.ts'

const instance = await DuckDBInstance.create(':memory:')
const connection = await instance.connect()
await connection.run("SET TimeZone = 'UTC'")
afterAll(() => {
  connection.closeSync()
  instance.closeSync()
})

/** Undefined where the line, or the filter, is left to JavaScript. */
async function duckdbAnswers(filter: Filter, json: string): Promise<boolean | undefined> {
  const { fields, condition, isOpen, isExact, parameters } = compileForDuckdb(filter)
  const values = [...parameters, json]
  const reader = await connection.runAndReadAll(
    `SELECT ${condition} AS answer, ${isOpen} AS is_open
     FROM (SELECT json, ${fields} AS fields FROM (SELECT $${values.length}::JSON AS json))`,
    values,
  )
  const [answer, open] = reader.getRows()[0] as [boolean, boolean]
  return open || (answer && !isExact) ? undefined : answer
}

describe('a filter in DuckDB', () => {
  it('answers as it does in JavaScript, or leaves the answer to it', async () => {
    let answered = 0
    await fc.assert(
      fc.asyncProperty(askedFilter, askedLine, async (of, entry) => {
        const answer = await duckdbAnswers(of, JSON.stringify(entry))
        if (answer === undefined) return
        answered += 1
        expect(answer).toBe(matcherOf(of)(entry))
      }),
      { numRuns: 2_000 },
    )
    expect(answered).toBeGreaterThan(1_000)
  }, 120_000)

  it('reads every spelling of a time as JavaScript does, to the millisecond', async () => {
    const days = ['2026-11-24', '1969-12-31', '2026-02-30', '2024-02-29', '2026-13-01']
    const clocks = ['', 'T12:00', ' 12:00:05', 'T12:00:05.1', 'T12:00:05.1239', 'T23:59:59.123999999']
    for (const day of days)
      for (const clock of clocks)
        for (const zone of clock === '' ? [''] : ['', 'Z', '+02:00', '-11:30']) {
          const time = day + clock + zone
          const ms = rankOf(['time'], time)
          const [seen, next] = await Promise.all(
            [ms, Number(ms) + 1].map((value) =>
              duckdbAnswers(
                { kind: 'compare', field: ['time'], comparison: '=', value: value as number },
                JSON.stringify({ time }),
              ),
            ),
          )
          if (typeof ms === 'number') expect({ time, seen, next }).toEqual({ time, seen: true, next: false })
          else expect(await duckdbAnswers(parseFilter(`time > 0`), JSON.stringify({ time }))).toBe(false)
        }
  })

  it('leaves a name that stands twice to JavaScript, which takes the last', async () => {
    const filter = parseFilter('level >= error')
    expect(await duckdbAnswers(filter, '{"level":30,"msg":"a","level":50}')).toBeUndefined()
    expect(await duckdbAnswers(filter, '{"level":30,"msg":"a"}')).toBe(false)
    expect(await duckdbAnswers(filter, '{"level":"ERROR","msg":"a"}')).toBe(true)
    const slow = parseFilter('duration_ms > 250')
    expect(await duckdbAnswers(slow, '{"duration_ms":1,"duration_ms":300}')).toBeUndefined()
    expect(await duckdbAnswers(slow, '{"duration_ms":300,"duration_s":1}')).toBe(true)
  })

  it('finds too much rather than too little for a regular expression, also for its opposite', async () => {
    const line = '{"level":30,"msg":"a"}'
    expect(await duckdbAnswers(parseFilter("level = warn and msg ~~ '(?<=x)a'"), line)).toBe(false)
    expect(await duckdbAnswers(parseFilter("not msg ~~ '(?<=x)a'"), line)).toBeUndefined()
    expect(await duckdbAnswers(parseFilter("level = info and msg ~~ '(?<=x)a'"), line)).toBeUndefined()
  })

  it('has nothing of its names and values in the statement', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[g-z]{12}$/), fc.stringMatching(/^[g-z]{12}$/), (secret, other) => {
        const { fields, condition, isOpen } = compileForDuckdb({
          kind: 'or',
          left: { kind: 'in', field: [secret, other], values: [secret, other] },
          right: { kind: 'compare', field: [other], comparison: '~~', value: secret },
        })
        const sql = fields + condition + isOpen
        expect(sql).not.toContain(secret)
        expect(sql).not.toContain(other)
      }),
    )
  })
})
