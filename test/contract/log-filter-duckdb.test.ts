/** A filter in DuckDB answers as it does in JavaScript, and is no SQL. */
import { DuckDBInstance } from '@duckdb/node-api'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { Comparison, FieldPath, Filter, Literal } from '../../src/query/filter/ast.ts'
import { compileForDuckdb } from '../../src/query/filter/compile-duckdb.ts'
import { matcherOf } from '../../src/query/filter/match.ts'
import { existences, filtersOf, memberships } from './filters.ts'

const instance = await DuckDBInstance.create(':memory:')
const connection = await instance.connect()
await connection.run("SET TimeZone = 'UTC'")
afterAll(() => {
  connection.closeSync()
  instance.closeSync()
})

async function duckdbAnswers(filter: Filter, entry: object): Promise<boolean> {
  const { sql, parameters } = compileForDuckdb(filter)
  const values = [...parameters, JSON.stringify(entry)]
  const reader = await connection.runAndReadAll(
    `SELECT (${sql}) AS answer FROM (SELECT $${values.length}::JSON AS json)`,
    values,
  )
  return reader.getRows()[0]?.[0] as boolean
}

// Few names and values, so that filters and lines meet.
const name = fc.constantFrom('level', 'time', 'a', 'b', 'a.b', "x'y", 'x/y~z', '"', '')
const text = fc.constantFrom(
  ...[
    'warn',
    'ERROR',
    '50',
    ' 7 ',
    '1e3',
    '2026-11-24',
    '2026-11-24T10:00:00.123Z',
    '2026-11-24T12:00+02:00',
  ],
  ...['true', 'null', '', "'; DROP TABLE x; --", '$1', 'a', 'B', 'é', '0x10', 'Infinity', 'NaN', '.', '1.'],
)
const number = fc.constantFrom(0, 1, -1, 5.5, 10, 40, 50, 1000, 1e15, 1e21, Date.UTC(2026, 10, 24, 10))
const scalar: fc.Arbitrary<Literal> = fc.oneof(text, number, fc.constantFrom(true, false, null))
const field = fc.array(name, { minLength: 1, maxLength: 2 }).map((path) => path as unknown as FieldPath)
const comparison: fc.Arbitrary<Comparison> = fc.constantFrom('=', '!=', '<', '<=', '>', '>=')
const leaf: fc.Arbitrary<Filter> = fc.oneof(
  fc.record({ field, comparison, value: scalar }).map((parts): Filter => ({ kind: 'compare', ...parts })),
  fc
    .record({ field, value: fc.constantFrom('a', 'WARN', '5', 'é', '') })
    .map((parts): Filter => ({ kind: 'compare', comparison: '~', ...parts })),
  fc
    .record({ field, value: fc.constantFrom('^a', '\\d+', '[A-Z]{2}', 'n$') })
    .map((parts): Filter => ({ kind: 'compare', comparison: '~~', ...parts })),
  existences(field),
  memberships(field, scalar),
)
const filter = filtersOf(leaf)
const value = fc.oneof(
  { weight: 5, arbitrary: scalar },
  { weight: 1, arbitrary: fc.array(scalar, { maxLength: 2 }) },
  { weight: 2, arbitrary: fc.dictionary(name, scalar, { maxKeys: 3 }) },
)
const line = fc.dictionary(name, value, { maxKeys: 6 })

describe('a filter in DuckDB', () => {
  it('answers as it does in JavaScript', async () => {
    await fc.assert(
      fc.asyncProperty(filter, line, async (of, entry) => {
        expect(await duckdbAnswers(of, entry)).toBe(matcherOf(of)(entry))
      }),
      { numRuns: 2_000 },
    )
  }, 120_000)

  it('has nothing of its names and values in the statement', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[g-z]{12}$/), fc.stringMatching(/^[g-z]{12}$/), (secret, other) => {
        const { sql } = compileForDuckdb({
          kind: 'or',
          left: { kind: 'in', field: [secret, other], values: [secret, other] },
          right: { kind: 'compare', field: [other], comparison: '~~', value: secret },
        })
        expect(sql).not.toContain(secret)
        expect(sql).not.toContain(other)
      }),
    )
  })
})
