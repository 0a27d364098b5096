/** A duration, as an option has it. */
import { InvalidArgumentError } from 'commander'
import { spanOf } from './span-argument.js'

/** `500ms`, `2s`, `1.5m`, `1h`, `1d` in milliseconds. */
export function durationArgument(value: string): number {
  const text = value.trim()
  const durationMs = /^\d+(?:\.\d+)?ms$/.test(text) ? Number(text.slice(0, -2)) : spanOf(text)
  if (durationMs !== undefined) return durationMs
  throw new InvalidArgumentError('A duration is a number with its unit: 500ms, 2s, 1m, 1h.')
}
