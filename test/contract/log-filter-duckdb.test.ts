/** A filter in DuckDB answers as it does in JavaScript, and is no SQL. */
import { DuckDBInstance } from '@duckdb/node-api'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { Filter } from '../../src/query/filter/ast.ts'
import { compileForDuckdb } from '../../src/query/filter/compile-duckdb.ts'
import { matcherOf } from '../../src/query/filter/match.ts'
import { askedFilter, askedLine } from './filters.ts'

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

describe('a filter in DuckDB', () => {
  it('answers as it does in JavaScript', async () => {
    await fc.assert(
      fc.asyncProperty(askedFilter, askedLine, async (of, entry) => {
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
