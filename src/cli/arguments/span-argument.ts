/** A span of time: `15m`. */
import { InvalidArgumentError } from 'commander'

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** In milliseconds. */
export function spanArgument(value: string): number {
  const span = spanOf(value)
  if (span !== undefined && span > 0) return span
  throw new InvalidArgumentError('A span is a number with its unit: 30s, 1m, 1h, 1d.')
}

/** `15m` in milliseconds; undefined for anything else. */
export function spanOf(value: string): number | undefined {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([smhd])$/.exec(value.trim()) ?? []
  return number === undefined ? undefined : Number(number) * (UNITS[unit] ?? Number.NaN)
}
