/**
 * The filter language of `throughline logs`, as a tree. A field that a line lacks makes a comparison false, and `not`
 * makes that true: there is no third truth.
 *
 *   level >= warn and action = createOrder
 *   status in (500, 502) or not (duration_ms <= 250)
 *   msg ~ 'timeout' and exists(err)
 */

/** `idempotency.outcome` is `['idempotency', 'outcome']`. */
export type FieldPath = readonly [string, ...string[]]

export type Literal = string | number | boolean | null

export const COMPARISONS = ['=', '!=', '<', '<=', '>', '>=', '~', '~~'] as const
/** `~`: contains the text, whatever its case; `~~`: matches the regular expression. */
export type Comparison = (typeof COMPARISONS)[number]

export type Filter =
  | { kind: 'and' | 'or'; left: Filter; right: Filter }
  | { kind: 'not'; of: Filter }
  | { kind: 'exists'; field: FieldPath }
  | { kind: 'compare'; field: FieldPath; comparison: Comparison; value: Literal }
  | { kind: 'in'; field: FieldPath; values: readonly [Literal, ...Literal[]] }

/** pino's numbers (https://getpino.io/#/docs/api?id=level-string). */
export const LEVELS: Readonly<Record<string, number>> = {
  trace: 10,
  debug: 20,
  info: 30,
  warn: 40,
  error: 50,
  fatal: 60,
}

/** The field whose values are compared by rank, by name or number. */
export const LEVEL_FIELD = 'level'

/** The field whose values are moments: epoch milliseconds, or what a Date reads. */
export const TIME_FIELD = 'time'
