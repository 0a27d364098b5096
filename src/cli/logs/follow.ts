/** Found lines as they are written, until Ctrl-C. */
import { followLogs } from '../../query/logs/follow-logs.js'
import { findLastLogs } from '../../query/logs/last-logs.js'
import type { Output } from '../terminal/output.js'
import type { Terminal } from '../terminal/terminal.js'
import type { LogsOptions, Question } from './options.js'
import { lineFormatOf, printLines } from './print-lines.js'

/** Lines that it begins with, unless -n says otherwise; with --since, at most. */
const LAST_COUNT = 10
const SINCE_COUNT = 100_000

/** How many lines there were. */
export async function follow(
  question: Question,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  const { ends, lines } = await followLogs({ ...question, signal: stop.signal })
  const format = await lineFormatOf(options, terminal)
  if (ends.size === 0) process.stderr.write('throughline: nothing is there yet: waiting for lines.\n')
  const count = options.count ?? (options.since === undefined ? LAST_COUNT : SINCE_COUNT)
  const before = ends.size === 0 ? [] : await findLastLogs(question, count, ends)
  const found = await printLines(before, format, output)
  return found + (await printLines(lines, found > 0 ? { ...format, heading: '' } : format, output))
}
