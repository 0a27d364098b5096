/** What was measured, in rows, ratios, and beside what we aim at. */
import { type BenchResult, median, medianOfRatios, round } from '../benchmark.ts'
import { formatTable } from '../table.ts'
import type { Samples } from '../workers.ts'
import type { Measured } from './measure.ts'
import { MANY } from './questions.ts'

/** Of our time to theirs. */
const GOALS: Readonly<Record<string, string>> = {
  'one ID: throughline/grep -c': '<= 1.5',
  'one ID: throughline/jq': '<= 0.067',
  'slow errors: throughline/DuckDB': '<= 1.2',
  'slow errors: throughline/jq': '<= 0.067',
  'failures of an action: throughline/DuckDB': '<= 1.2',
  'failures of an action: throughline/jq': '<= 0.067',
  'count by action and status: throughline/jq': '<= 0.067',
  'p95 by route: throughline/jq': '<= 0.067',
  [`one ID, compacted: throughline${MANY}/throughline`]: 'about 1',
}

const MEMORY_GOAL_MEGABYTES = 300
const QUERY_GOAL_MS = 60

/** Medians over the rounds. */
export function rowsOf(samples: Samples<Measured>): BenchResult['rows'] {
  return Object.entries(samples).flatMap(([task, contestants]) =>
    Object.entries(contestants).map(([contestant, measured]) => {
      const medianOf = (measure: keyof Measured) => {
        const value = median(measured.map((each) => each[measure] ?? Number.NaN))
        return Number.isNaN(value) ? undefined : round(value, 0)
      }
      return {
        ...{ task, contestant, ms: medianOf('ms'), cpuMs: medianOf('cpuMs') },
        ...{ peakMegabytes: medianOf('peakMegabytes'), queryMs: medianOf('queryMs') },
      }
    }),
  )
}

/** Of the first contestant's time to that of each other. */
export function ratiosOf(samples: Samples<Measured>): Record<string, number> {
  const ratios: Record<string, number> = {}
  const ms = (measured: readonly Measured[] = []) => measured.map((each) => each.ms)
  const add = (task: string, ours: string, rival: string) => {
    const [times, rivals] = [ms(samples[task]?.[ours]), ms(samples[task]?.[rival])]
    if (times.length > 0 && rivals.length > 0)
      ratios[`${task}: ${ours}/${rival}`] = round(medianOfRatios(times, rivals), 3)
  }
  for (const [task, contestants] of Object.entries(samples)) {
    for (const rival of Object.keys(contestants)) {
      if (rival.startsWith('throughline')) continue
      add(task, rival.endsWith(MANY) ? `throughline${MANY}` : 'throughline', rival)
    }
    add(task, `throughline${MANY}`, 'throughline')
  }
  return ratios
}

export function tableOf({ machine, options, rows, ratios }: BenchResult): string {
  const figures = formatTable(
    ['', 'ms', 'CPU ms', 'peak MB', 'query ms'],
    rows.map(({ task, contestant, ...measured }) => [
      `${task}, ${contestant}`,
      ...Object.values(measured).map((value) => String(value ?? '')),
    ]),
  )
  const compared = formatTable(
    ['', 'ratio of ms', 'goal'],
    Object.entries(ratios).map(([name, ratio]) => [name, String(ratio), GOALS[name] ?? '']),
  )
  const conditions = `${options.rounds} rounds, ${options.lines} lines a file, ${options.files} files compacted together`
  const about = Object.entries(machine).map(([name, value]) => `${name} ${value}`)
  return `${conditions}\n${about.join(', ')}\n\n${figures}\n\n${compared}\n\n${highestOf(rows)}`
}

/** Beside what we aim at in figures of our own. */
function highestOf(rows: BenchResult['rows']): string {
  const highest = (measure: string, named: string) => {
    const those = rows.filter((row) => `${row.task}, ${row.contestant}`.includes(named))
    const figures = those.map((row) => row[measure]).filter((figure) => figure !== undefined)
    return figures.length === 0 ? 'not measured' : Math.max(...figures.map(Number))
  }
  return [
    `highest peak MB of throughline: ${highest('peakMegabytes', 'throughline')}, goal < ${MEMORY_GOAL_MEGABYTES}`,
    `highest query ms of one ID, compacted: ${highest('queryMs', 'one ID, compacted')}, goal <= ${QUERY_GOAL_MS}`,
  ].join('\n')
}
