/**
 * What an engine is asked for when it cannot answer a filter exactly: more than the filter finds, never less. Of each
 * comparison it is said which lines hold for sure among others, and which fail; `not` exchanges the two, so that what
 * was widened is widened still.
 */
import type { Filter } from './ast.js'

export type Leaf = Extract<Filter, { kind: 'compare' | 'exists' }>

/** Of one filter, in an engine's terms. Undefined: every line may be one. */
export interface Bounds<T> {
  /** Has every line that the filter finds. */
  holds: T | undefined
  /** Has every line that it does not find. */
  fails: T | undefined
}

/** Each may have more than it must. */
export interface Joins<T> {
  and(left: T, right: T): T
  or(left: T, right: T): T
}

export function boundsOf<T>(
  filter: Filter,
  leafBounds: (leaf: Leaf) => Bounds<T>,
  joins: Joins<T>,
): Bounds<T> {
  const visit = (part: Filter): Bounds<T> => {
    switch (part.kind) {
      case 'not': {
        const { holds, fails } = visit(part.of)
        return { holds: fails, fails: holds }
      }
      case 'and':
        return bothOf(visit(part.left), visit(part.right), joins)
      case 'or':
        return eitherOf(visit(part.left), visit(part.right), joins)
      case 'in': {
        const [first, ...others] = part.values.map((value) =>
          leafBounds({ kind: 'compare', field: part.field, comparison: '=', value }),
        )
        return others.reduce((left, right) => eitherOf(left, right, joins), first as Bounds<T>)
      }
      default:
        return leafBounds(part)
    }
  }
  return visit(filter)
}

function bothOf<T>(left: Bounds<T>, right: Bounds<T>, { and, or }: Joins<T>): Bounds<T> {
  return { holds: narrower(left.holds, right.holds, and), fails: wider(left.fails, right.fails, or) }
}

function eitherOf<T>(left: Bounds<T>, right: Bounds<T>, { and, or }: Joins<T>): Bounds<T> {
  return { holds: wider(left.holds, right.holds, or), fails: narrower(left.fails, right.fails, and) }
}

function narrower<T>(left: T | undefined, right: T | undefined, and: Joins<T>['and']): T | undefined {
  return left === undefined ? right : right === undefined ? left : and(left, right)
}

function wider<T>(left: T | undefined, right: T | undefined, or: Joins<T>['or']): T | undefined {
  return left === undefined || right === undefined ? undefined : or(left, right)
}
