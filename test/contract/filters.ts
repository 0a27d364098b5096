/** Arbitrary filters of `throughline logs`. */
import fc from 'fast-check'
import type { Comparison, FieldPath, Filter, Literal } from '../../src/query/filter/ast.ts'

/** Filters built from these comparisons with not, and, or. */
export function filtersOf(...leaves: fc.Arbitrary<Filter>[]): fc.Arbitrary<Filter> {
  return fc.letrec<{ filter: Filter }>((tie) => ({
    filter: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      ...leaves,
      tie('filter').map((of): Filter => ({ kind: 'not', of })),
      fc
        .record({
          kind: fc.constantFrom('and' as const, 'or' as const),
          left: tie('filter'),
          right: tie('filter'),
        })
        .map((parts): Filter => parts),
    ),
  })).filter
}

/** Filters that ask whether a field exists. */
export function existences(field: fc.Arbitrary<FieldPath>): fc.Arbitrary<Filter> {
  return field.map((of): Filter => ({ kind: 'exists', field: of }))
}

/** Filters that ask whether a field is one of a few values. */
export function memberships(
  field: fc.Arbitrary<FieldPath>,
  literal: fc.Arbitrary<Literal>,
): fc.Arbitrary<Filter> {
  return fc
    .record({ field, values: fc.array(literal, { minLength: 1, maxLength: 3 }) })
    .map(({ field: of, values }): Filter => ({ kind: 'in', field: of, values: values as [Literal] }))
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

/** A filter of the fields and values that `askedLine` has. */
export const askedFilter: fc.Arbitrary<Filter> = filtersOf(leaf)

const value = fc.oneof(
  { weight: 5, arbitrary: scalar },
  { weight: 1, arbitrary: fc.array(scalar, { maxLength: 2 }) },
  { weight: 2, arbitrary: fc.dictionary(name, scalar, { maxKeys: 3 }) },
)

export const askedLine: fc.Arbitrary<Record<string, unknown>> = fc.dictionary(name, value, { maxKeys: 6 })
