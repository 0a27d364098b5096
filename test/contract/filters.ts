/** Arbitrary filters of `throughline logs`. */
import fc from 'fast-check'
import type { FieldPath, Filter, Literal } from '../../src/query/filter/ast.ts'

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
