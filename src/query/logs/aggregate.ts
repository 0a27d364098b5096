/** Lines, counted: by the values of fields, by the size of one, by time. Lines in which a number is asked for and none is there are left out. */
import { ThroughlineError } from '../../errors.js'
import type { FieldPath } from '../filter/ast.js'
import { type LogEntry, valueAt } from '../filter/match.js'
import { epochMsOf } from './log-files.js'

/** The most groups, and the most numbers for percentiles, that are kept: memory stays bounded. */
const MAX_GROUPS = 100_000
const MAX_NUMBERS = 5_000_000

/** A group of lines, by the values that they have in common; undefined where they lack the field. */
export interface Group {
  values: (string | undefined)[]
  count: number
}

/** A group whose lines have a number. */
export interface PercentileGroup extends Group {
  /** Of the numbers: the smallest that so many per cent do not exceed. */
  percentile: number
}

/** What is asked of the lines. */
export type Aggregate =
  | { kind: 'count'; by: readonly FieldPath[] }
  | { kind: 'percentile'; field: FieldPath; percent: number; by: readonly FieldPath[] }
  | { kind: 'histogram'; bucketMs: number }

/** Lines within a span of time. */
export interface TimeBucket {
  startMs: number
  count: number
}

export type AggregateResult =
  | { kind: 'count'; groups: Group[] }
  | { kind: 'percentile'; groups: PercentileGroup[] }
  | { kind: 'histogram'; buckets: TimeBucket[] }

/** Lines are counted one by one, or many at once that are alike. */
export class CountedGroups {
  readonly #groups = new Map<string, Group>()

  /** @throws {ThroughlineError} `TOO_MANY_GROUPS` */
  add(values: Group['values'], count = 1): void {
    groupOf(this.#groups, values, () => ({ values, count: 0 })).count += count
  }

  /** The largest first. */
  all(): Group[] {
    return [...this.#groups.values()].sort((a, b) => b.count - a.count)
  }
}

/** Numbers by group. */
class Percentiles {
  readonly #groups = new Map<string, Group & { numbers: number[] }>()
  #kept = 0

  /** @throws {ThroughlineError} `TOO_MANY_GROUPS` */
  add(values: Group['values'], number: number): void {
    const group = groupOf(this.#groups, values, () => ({ values, count: 0, numbers: [] }))
    group.count += 1
    group.numbers.push(number)
    this.#kept += 1
    if (this.#kept > MAX_NUMBERS) throw tooManyError(`more than ${MAX_NUMBERS} numbers`)
  }

  all(percent: number): PercentileGroup[] {
    return byPercentile(
      [...this.#groups.values()].map(({ numbers, ...group }) => ({
        ...group,
        percentile: percentileOf(numbers, percent),
      })),
    )
  }
}

/** The largest first. */
export function byPercentile(groups: PercentileGroup[]): PercentileGroup[] {
  return groups.sort((a, b) => b.percentile - a.percentile)
}

/** Lines by time. */
export class CountedSpans {
  readonly #bucketMs: number
  readonly #counts = new Map<number, number>()

  constructor(bucketMs: number) {
    this.#bucketMs = bucketMs
  }

  /** Lines without a time are left out. */
  add(time: unknown, count = 1): void {
    const ms = epochMsOf(time)
    if (ms === undefined) return
    const startMs = Math.floor(ms / this.#bucketMs) * this.#bucketMs
    this.#counts.set(startMs, (this.#counts.get(startMs) ?? 0) + count)
  }

  /** By time, with the empty ones between. @throws {ThroughlineError} `TOO_MANY_GROUPS` */
  all(): TimeBucket[] {
    const starts = [...this.#counts.keys()].sort((a, b) => a - b)
    const [first, last] = [starts[0], starts.at(-1)]
    if (first === undefined || last === undefined) return []
    const buckets = Math.round((last - first) / this.#bucketMs) + 1
    if (buckets > MAX_GROUPS) throw tooManyError(`${buckets} spans of that length`)
    return Array.from({ length: buckets }, (_, index) => {
      const startMs = first + index * this.#bucketMs
      return { startMs, count: this.#counts.get(startMs) ?? 0 }
    })
  }
}

/** The largest group first, or by time. @throws {ThroughlineError} `TOO_MANY_GROUPS` */
export async function aggregateLines(
  lines: AsyncIterable<{ entry: LogEntry }>,
  aggregate: Aggregate,
): Promise<AggregateResult> {
  if (aggregate.kind === 'histogram') {
    const spans = new CountedSpans(aggregate.bucketMs)
    for await (const { entry } of lines) spans.add(entry.time)
    return { kind: 'histogram', buckets: spans.all() }
  }
  if (aggregate.kind === 'count') {
    const groups = new CountedGroups()
    for await (const { entry } of lines) groups.add(groupValues(entry, aggregate.by))
    return { kind: 'count', groups: groups.all() }
  }
  const { field, percent, by } = aggregate
  const percentiles = new Percentiles()
  for await (const { entry } of lines) {
    const value = valueAt(entry, field)
    if (typeof value === 'number') percentiles.add(groupValues(entry, by), value)
  }
  return { kind: 'percentile', groups: percentiles.all(percent) }
}

/** What a line has of the fields. */
export function groupValues(entry: LogEntry, by: readonly FieldPath[]): Group['values'] {
  return by.map((field) => groupValue(valueAt(entry, field)))
}

/** A value as the text that it is grouped by. */
export function groupValue(value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value
  return JSON.stringify(value)
}

function groupOf<G extends Group>(groups: Map<string, G>, values: Group['values'], create: () => G): G {
  const key = JSON.stringify(values)
  let group = groups.get(key)
  if (group === undefined) {
    if (groups.size >= MAX_GROUPS) throw tooManyError(`more than ${MAX_GROUPS} groups`)
    group = create()
    groups.set(key, group)
  }
  return group
}

/** The nearest rank (https://en.wikipedia.org/wiki/Percentile#The_nearest-rank_method). */
function percentileOf(numbers: number[], percent: number): number {
  numbers.sort((a, b) => a - b)
  return numbers[Math.max(0, Math.ceil((percent / 100) * numbers.length) - 1)] ?? Number.NaN
}

function tooManyError(what: string): ThroughlineError {
  return new ThroughlineError('TOO_MANY_GROUPS', `There are ${what}.`, {
    why: 'They are kept in memory until all lines are read, and memory is bounded.',
    fix: 'Group by fields of fewer values, or narrow the filter.',
  })
}
