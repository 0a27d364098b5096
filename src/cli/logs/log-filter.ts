/** What `throughline logs` is asked for, by its filter and its options, as one filter. */
import { InvalidArgumentError } from 'commander'
import type { FieldPath, Filter, Literal } from '../../query/filter/ast.js'
import { parseFilter } from '../../query/filter/parse.js'
import type { FilterSyntaxError } from '../../query/filter/syntax-error.js'
import { LOG_FIELD } from '../../telemetry/names.js'
import { spanOf } from '../arguments/span-argument.js'
import { printable } from '../terminal/printable.js'

export interface FilterOptions {
  /** Epoch milliseconds. */
  since?: number
  until?: number
  correlation?: string
  trace?: string
  digest?: string
  action?: string
  route?: string
  hits?: boolean
}

/** Undefined when every line is asked for. @throws {FilterSyntaxError} */
export function filterOf(source: string | undefined, options: FilterOptions): Filter | undefined {
  const parts: Filter[] = source === undefined ? [] : [parseFilter(source)]
  const equal = (field: FieldPath, value: Literal | undefined) => {
    if (value !== undefined) parts.push({ kind: 'compare', field, comparison: '=', value })
  }
  equal([LOG_FIELD.correlationId], options.correlation)
  equal([LOG_FIELD.traceId], options.trace)
  equal([LOG_FIELD.error, 'digest'], options.digest)
  equal([LOG_FIELD.action], options.action)
  equal([LOG_FIELD.route], options.route)
  equal([LOG_FIELD.idempotency, 'hit'], options.hits)
  const time: FieldPath = ['time']
  if (options.since !== undefined)
    parts.push({ kind: 'compare', field: time, comparison: '>=', value: options.since })
  if (options.until !== undefined)
    parts.push({ kind: 'compare', field: time, comparison: '<', value: options.until })
  return parts.length === 0 ? undefined : parts.reduce((left, right) => ({ kind: 'and', left, right }))
}

/** The IDs that a line must have: they are looked for in the bytes. */
export function idsOf({ correlation, trace, digest }: FilterOptions): string[] | undefined {
  // One is enough, and the rarest is the longest.
  const [id] = [correlation, trace, digest]
    .filter((each) => each !== undefined)
    .sort((a, b) => b.length - a.length)
  return id === undefined ? undefined : [id]
}

/** `15m` ago, or a moment: `2026-11-24`, `2026-11-24T10:00`, epoch milliseconds. */
export function momentArgument(value: string): number {
  const ago = spanOf(value)
  if (ago !== undefined) return Date.now() - ago
  const ms = /^\d{10,}$/.test(value) ? Number(value) : Date.parse(value)
  if (Number.isFinite(ms)) return ms
  throw new InvalidArgumentError('A moment is 15m, 2h or 3d ago, or a time: 2026-11-24T10:00.')
}

/**
 * The filter, and a mark below where it does not parse.
 *
 * @param command whose help tells of filters
 */
export function syntaxErrorText(
  { source, at, end, expected }: FilterSyntaxError,
  command: 'logs' | 'traces' = 'logs',
): string {
  const before = printable(source.slice(0, at))
  const marked = printable(source.slice(at, end)) || ' '
  const after = printable(source.slice(end))
  return [
    'throughline: the filter does not parse:',
    `  ${before}${marked.trimEnd()}${after}`,
    `  ${' '.repeat(before.length)}${'^'.repeat(Math.max(1, marked.length))}`,
    `  expected ${expected}.`,
    `See: throughline ${command} --help`,
    '',
  ].join('\n')
}
