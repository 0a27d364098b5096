/** The times that a filter asks for. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Comparison, Filter } from '../../src/query/filter/ast.ts'
import { matcherOf } from '../../src/query/filter/match.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { timeRangeOf } from '../../src/query/filter/time-range.ts'
import { existences, filtersOf, memberships } from './filters.ts'

describe('the times of a filter', () => {
  it.each([
    ['time >= 5 and time < 9 and a = 1', { sinceMs: 5, untilMs: 9 }],
    ['time > 5 and (time < 9 or time < 12)', { sinceMs: 5, untilMs: 12 }],
    ['time > 5 and time > 7', { sinceMs: 7, untilMs: undefined }],
    ['time in (5, 9)', { sinceMs: 5, untilMs: 9 }],
    ['not not time > 5', { sinceMs: 5 }],
    ["time = '1970-01-01T00:00:01Z'", { sinceMs: 1_000, untilMs: 1_000 }],
    ['time > 5 or a = 1', {}],
    ['not time < 5', {}],
    ['a > 5', {}],
  ])('of %s', (source, range) => {
    expect(timeRangeOf(parseFilter(source))).toEqual(range)
  })

  it('are those of every line that it finds', () => {
    const ms = fc.integer({ min: 0, max: 9 })
    const field = fc.constantFrom<[string]>(['time'], ['a'])
    const comparison: fc.Arbitrary<Comparison> = fc.constantFrom('=', '!=', '<', '<=', '>', '>=', '~')
    const filter = filtersOf(
      fc.record({ field, comparison, value: ms }).map((parts): Filter => ({ kind: 'compare', ...parts })),
      existences(field),
      memberships(field, ms),
    )
    fc.assert(
      fc.property(filter, ms, ms, (of, time, a) => {
        const { sinceMs = 0, untilMs = 9 } = timeRangeOf(of)
        if (matcherOf(of)({ time, a })) expect(time >= sinceMs && time <= untilMs).toBe(true)
      }),
      { numRuns: 5_000 },
    )
  })
})
