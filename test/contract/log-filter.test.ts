/** The filter language of `throughline logs`: what it reads, says back, refuses and finds. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { COMPARISONS, type FieldPath, type Filter, type Literal } from '../../src/query/filter/ast.ts'
import { matcherOf } from '../../src/query/filter/match.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { printFilter } from '../../src/query/filter/print.ts'
import { FilterSyntaxError } from '../../src/query/filter/syntax-error.ts'
import { existences, filtersOf, memberships } from './filters.ts'

const literal: fc.Arbitrary<Literal> = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => (Object.is(value, -0) ? 0 : value)),
  fc.constantFrom(true, false, null, 'and', 'true', "it's", 'in'),
)
const field: fc.Arbitrary<FieldPath> = fc
  .array(fc.oneof(fc.constantFrom('level', 'err', 'not', 'exists', 'a.b', '`'), fc.string()), {
    minLength: 1,
    maxLength: 3,
  })
  .map((path) => path as unknown as FieldPath)
const filter = filtersOf(
  fc
    .record({ field, comparison: fc.constantFrom(...COMPARISONS.slice(0, 7)), value: literal })
    .map((parts): Filter => ({ kind: 'compare', ...parts })),
  existences(field),
  memberships(field, literal),
)

describe('a filter', () => {
  it('parses to what was printed', () => {
    fc.assert(
      fc.property(filter, (of) => {
        expect(parseFilter(printFilter(of))).toEqual(of)
      }),
      { numRuns: 2_000 },
    )
  })

  it('parses, or says where it does not, whatever is written', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string()), (source) => {
        try {
          parseFilter(source)
        } catch (error) {
          expect(error).toBeInstanceOf(FilterSyntaxError)
          const { at, end } = error as FilterSyntaxError
          expect(at).toBeLessThanOrEqual(source.length)
          expect(end).toBeGreaterThan(at)
        }
      }),
      { numRuns: 2_000 },
    )
  })

  it('binds not before and, and and before or', () => {
    expect(printFilter(parseFilter('not a = 1 and b = 2 or c = 3'))).toBe(
      '((not (a = 1) and b = 2) or c = 3)',
    )
  })

  it.each([
    ['level >=', 8, 'a value: a word, a number, or a text in quotes'],
    ['level warn', 6, "= != < <= > >= ~ ~~ or 'in'"],
    ['(a = 1', 6, "')'"],
    ["msg ~ 'open", 6, "a closing '"],
    ['a = 1 b = 2', 6, "'and', 'or' or the end"],
    ['= 1', 0, 'the name of a field'],
    ['status in 500', 10, "'('"],
    ["msg ~~ '('", 7, 'a regular expression'],
    ['', 0, 'the name of a field'],
    ['a = and', 4, "a value; in quotes, 'and' is one"],
    [`${'('.repeat(300)}a = 1`, 201, 'fewer parentheses'],
  ])('says of %j where it fails, and what was expected', (source, at, expected) => {
    expect(() => parseFilter(source)).toThrow(expect.objectContaining({ at, expected }))
  })
})

describe('a line', () => {
  const line = {
    level: 40,
    time: Date.UTC(2026, 10, 24, 10),
    msg: 'Connection TIMEOUT of api.example.org',
    action: 'createOrder',
    route: '/orders/[id]',
    status: 500,
    code: '500',
    duration_ms: 251.5,
    ok: true,
    none: null,
    idempotency: { outcome: 'replay', hits: 2 },
    'http.method': 'POST',
    err: { type: 'Error', message: 'socket hang up' },
  }

  it.each([
    ['level >= warn', true],
    ['level > warn', false],
    ['level = WARN', true],
    ['level in (error, warn)', true],
    ['level < 50 and level != info', true],
    ['action = createOrder', true],
    ['action != createOrder', false],
    ['route = /orders/[id]', true],
    ['status in (500, 502)', true],
    ['status not in (500, 502)', false],
    ["status = '500'", true],
    ['code = 500', true],
    ['code >= 500', true],
    ['duration_ms > 250', true],
    ['duration_ms > 251.5', false],
    ["msg ~ 'timeout'", true],
    ["msg ~~ 'timeout'", false],
    ["msg ~~ '^Connection .*\\.org$'", true],
    ['exists(err)', true],
    ['exists(err.stack)', false],
    ['exists(none)', true],
    ['none = null', true],
    ['ok = true', true],
    ["ok = 'true'", true],
    ['idempotency.outcome = replay', true],
    ['idempotency.hits >= 2', true],
    ['http.method = POST', true],
    ["err ~ 'hang up'", true],
    ['missing = 1', false],
    ['missing != 1', false],
    ['not missing = 1', true],
    ['missing < 1 or missing >= 1', false],
    ["time >= '2026-11-24T10:00:00Z' and time < 2026-11-25", true],
    ["time > '2026-11-24T10:00:00Z'", false],
    ['action > 5', false],
    ['action >= createA', true],
    ['__proto__ = null', false],
    ['exists(constructor)', false],
  ])('that is asked %s answers %s', (source, answer) => {
    expect(matcherOf(parseFilter(source))(line)).toBe(answer)
  })

  it('is found by a filter or by its opposite, and never by both', () => {
    fc.assert(
      fc.property(filter, fc.object(), (of, entry) => {
        const [it, opposite] = [matcherOf(of), matcherOf({ kind: 'not', of })]
        expect(it(entry)).toBe(!opposite(entry))
      }),
    )
  })
})
