/** Lines, counted: by the values of fields, by the size of one, by time. */
import { ThroughlineError } from '../errors.js'
import type { FieldPath } from './filter/ast.js'
import { type LogEntry, valueAt } from './filter/match.js'
import { printField } from './filter/print.js'
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

/** Lines within a span of time. */
export interface TimeBucket {
  startMs: number
  count: number
}

/** The largest group first. @throws {ThroughlineError} `TOO_MANY_GROUPS` */
export async function countBy(lines: AsyncIterable<LogEntry>, by: readonly FieldPath[]): Promise<Group[]> {
  const groups = new Map<string, Group>()
  for await (const line of lines) groupOf(groups, line, by, (values) => ({ values, count: 0 })).count += 1
  return [...groups.values()].sort((a, b) => b.count - a.count)
}

/** The largest first. Lines in which the field is no number are left out. @throws {ThroughlineError} `TOO_MANY_GROUPS` */
export async function percentileBy(
  lines: AsyncIterable<LogEntry>,
  { field, percent, by }: { field: FieldPath; percent: number; by: readonly FieldPath[] },
): Promise<PercentileGroup[]> {
  const groups = new Map<string, Group & { numbers: number[] }>()
  let kept = 0
  for await (const line of lines) {
    const value = valueAt(line, field)
    if (typeof value !== 'number') continue
    const group = groupOf(groups, line, by, (values) => ({ values, count: 0, numbers: [] }))
    group.count += 1
    group.numbers.push(value)
    kept += 1
    if (kept > MAX_NUMBERS) throw tooManyError(`more than ${MAX_NUMBERS} numbers of "${printField(field)}"`)
  }
  return [...groups.values()]
    .map(({ numbers, ...group }) => ({ ...group, percentile: percentileOf(numbers, percent) }))
    .sort((a, b) => b.percentile - a.percentile)
}

/** By time, with the empty ones between. Lines without a time are left out. @throws {ThroughlineError} `TOO_MANY_GROUPS` */
export async function histogram(lines: AsyncIterable<LogEntry>, bucketMs: number): Promise<TimeBucket[]> {
  const counts = new Map<number, number>()
  for await (const { time } of lines) {
    const ms = epochMsOf(time)
    if (ms === undefined) continue
    const startMs = Math.floor(ms / bucketMs) * bucketMs
    counts.set(startMs, (counts.get(startMs) ?? 0) + 1)
  }
  const starts = [...counts.keys()].sort((a, b) => a - b)
  const [first, last] = [starts[0], starts.at(-1)]
  if (first === undefined || last === undefined) return []
  const buckets = Math.round((last - first) / bucketMs) + 1
  if (buckets > MAX_GROUPS) throw tooManyError(`${buckets} spans of that length`)
  return Array.from({ length: buckets }, (_, index) => {
    const startMs = first + index * bucketMs
    return { startMs, count: counts.get(startMs) ?? 0 }
  })
}

function groupOf<G extends Group>(
  groups: Map<string, G>,
  line: LogEntry,
  by: readonly FieldPath[],
  create: (values: Group['values']) => G,
): G {
  const values = by.map((field) => textOf(valueAt(line, field)))
  const key = JSON.stringify(values)
  let group = groups.get(key)
  if (group === undefined) {
    if (groups.size >= MAX_GROUPS) throw tooManyError(`more than ${MAX_GROUPS} groups`)
    group = create(values)
    groups.set(key, group)
  }
  return group
}

function textOf(value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value
  return JSON.stringify(value)
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
