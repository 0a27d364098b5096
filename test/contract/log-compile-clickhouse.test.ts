/** A filter as a condition of ClickHouse: what it says, and that nothing of the filter stands in it. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileForClickhouse } from '../../src/query/filter/compile-clickhouse.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'

const compiled = (source: string) => {
  const { sql, parameters } = compileForClickhouse(parseFilter(source))
  return [sql, ...parameters.map((value, index) => `p${index + 1} = ${JSON.stringify(value)}`)].join('\n')
}

describe('a filter for ClickHouse', () => {
  it.each([
    'level >= warn',
    'not (level >= warn)',
    "correlation_id = 'order-1'",
    "trace_id = '4bf92f3577b34da6a3ce929d0e0e4736' and service = shop",
    "msg ~ 'time(out)'",
    "msg ~~ '^time'",
    'duration_ms > 250',
    "status in (500, '502', abc)",
    'status != 200',
    "not (action = 'createOrder')",
    'not (status = 200)',
    'exists(idempotency)',
    'err.type = TypeError',
    "err ~ 'timeout'",
    "time >= '2026-11-24T10:00:00Z'",
    'not (action = a or status > 5) and not not exists(route)',
    'action = true or action = null or action < true',
  ])('compiles %s', (source) => {
    expect(compiled(source)).toMatchSnapshot()
  })

  it('has nothing of its names and values in the statement', () => {
    const secret = fc.stringMatching(/^[g-z]{12}$/)
    fc.assert(
      fc.property(secret, secret, (name, value) => {
        const { sql } = compileForClickhouse({
          kind: 'or',
          left: { kind: 'not', of: { kind: 'in', field: [name, value], values: [value, name] } },
          right: {
            kind: 'and',
            left: { kind: 'compare', field: [name], comparison: '~', value },
            right: { kind: 'exists', field: ['err', name] },
          },
        })
        expect(sql).not.toContain(name)
        expect(sql).not.toContain(value)
      }),
    )
  })

  it('asks for all when a filter is longer than a statement may be', () => {
    const many = Array.from({ length: 500 }, (_, index) => `'x${index}'`).join(', ')
    expect(compileForClickhouse(parseFilter(`action in (${many})`))).toEqual({ sql: 'true', parameters: [] })
  })
})
