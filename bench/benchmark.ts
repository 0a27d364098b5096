/** What every benchmark takes and gives. */
import { cpus, release, type } from 'node:os'

export interface BenchOptions {
  /** Rounds. In each, every set-up runs once; a ratio is taken within a round. */
  rounds: number
  /** Length of one timed run, in seconds. */
  seconds: number
  /** Requests in flight. */
  connections: number
  /** Of a log file. */
  lines: number
  /** Log files. */
  files: number
}

export interface Benchmark {
  /** One line for the list of benchmarks. */
  summary: string
  run(options: BenchOptions): Promise<{ result: BenchResult; table: string }>
}

/** The object `--json` prints. */
export interface BenchResult {
  bench: string
  machine: Record<string, string | number>
  options: BenchOptions & Record<string, string | number>
  /** Medians over the rounds. */
  rows: Record<string, string | number | undefined>[]
  /** `<what>: <ours>/<rival> (<measure>)`: the median over the rounds of the ratio within one round. */
  ratios: Record<string, number>
}

export function describeMachine(): Record<string, string | number> {
  const processors = cpus()
  return {
    cpu: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    os: `${type()} ${release()}`,
    node: process.version,
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2
}

/** The median of `ours[i] / rivals[i]`: what disturbs a round disturbs both sides of its ratio. */
export function medianOfRatios(ours: readonly number[], rivals: readonly number[]): number {
  return median(ours.map((value, round) => value / (rivals[round] ?? Number.NaN)))
}

/** @param sorted ascending */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN
}

/** Progress, apart from the result on standard output. */
export function progress(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** The list, begun at another place in each round: no set-up always comes first. */
export function rotated<T>(list: readonly T[], by: number): T[] {
  const start = by % list.length
  return [...list.slice(start), ...list.slice(0, start)]
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
