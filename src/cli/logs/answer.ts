/** Asks and prints: lines, lines in their context, lines as they come, tables, SQL. */

import { filesAtAll, STDIN } from '../../query/files/sources.js'
import { stageLines } from '../../query/files/staged-lines.js'
import { aggregateLines } from '../../query/logs/aggregate.js'
import { aggregateLogs } from '../../query/logs/aggregate-logs.js'
import { type FoundLine, findLogs, findLogsInContext, type LogQuery } from '../../query/logs/find-logs.js'
import { followLogs } from '../../query/logs/follow-logs.js'
import { findLastLogs } from '../../query/logs/last-logs.js'
import type { RemoteLogs } from '../../query/remote/index.js'
import type { Output } from '../terminal/output.js'
import type { Terminal } from '../terminal/terminal.js'
import type { LogsOptions } from './options.js'
import { printContext } from './print-context.js'
import { lineFormatOf, printLines } from './print-lines.js'
import { aggregateOf, tableText } from './print-table.js'

export interface Question extends LogQuery {
  names: Set<string>
  /** Asks a store instead of files. */
  remote?: RemoteLogs | undefined
}

/** Lines that --follow begins with, unless -n or --since says otherwise. */
const FOLLOWED_COUNT = 10

/** How many lines, groups or rows there are. */
export async function answer(
  question: Question,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  if (options.sql !== undefined) return answerSql(question, options.sql, options, output, terminal)
  const aggregate = aggregateOf(options)
  const format = lineFormatOf(options, terminal)
  if (aggregate !== undefined) {
    const { remote, filter } = question
    const result =
      remote === undefined
        ? await aggregateLogs(question, aggregate)
        : await aggregateLines(remote.find({ filter }), aggregate)
    const text = tableText(result, aggregate, options, terminal)
    if (text === undefined) return 0
    await output.write(text)
    return 1
  }
  if (options.follow === true) return follow(question, options, output, terminal)
  if (options.context !== undefined) {
    const groups = findLogsInContext(question, options.context)
    const isBare = options.json === true || options.csv === true
    if (isBare) await output.write(format.heading)
    const kept = options.count === undefined ? groups : await lastOf(groups, options.count)
    return printContext(kept, { write: format.write, isBare, terminal }, output)
  }
  return printLines(await linesOf(question, options.count), format, output)
}

/** All, or the last so many, in order of time. */
async function linesOf(
  question: Question,
  count: number | undefined,
): Promise<AsyncIterable<FoundLine> | FoundLine[]> {
  const { remote, filter } = question
  if (count === undefined) return remote === undefined ? findLogs(question) : remote.find({ filter })
  if (remote === undefined) return findLastLogs(question, count)
  const latestFirst = []
  for await (const line of remote.find({ filter, limit: count, direction: 'backward' }))
    latestFirst.push(line)
  return latestFirst.reverse()
}

async function lastOf<T>(values: AsyncIterable<T>, count: number): Promise<T[]> {
  const last: T[] = []
  for await (const value of values) if (last.push(value) > count) last.shift()
  return last
}

/** Until Ctrl-C. */
async function follow(
  question: Question,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  const { ends, lines } = await followLogs({ ...question, signal: stop.signal })
  const format = lineFormatOf(options, terminal)
  if (ends.size === 0) process.stderr.write(`throughline: nothing is there yet: waiting for lines.\n`)
  const count = options.count ?? (options.since === undefined ? FOLLOWED_COUNT : Number.POSITIVE_INFINITY)
  const before = ends.size === 0 ? [] : await findLastLogs(question, count, ends)
  const found = await printLines(before, format, output)
  return found + (await printLines(lines, found > 0 ? { ...format, heading: '' } : format, output))
}

async function answerSql(
  question: Question,
  sql: string,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const { askSql } = await import('../../query/duckdb/ask-sql.js')
  const { printSql } = await import('./print-sql.js')
  const { paths, filter, tally } = question
  // DuckDB reads files itself: of other lines one is made.
  const isFile = filter === undefined && !paths.includes(STDIN)
  const staged = isFile ? undefined : await stageLines(findLogs(question))
  try {
    const files = staged === undefined ? await filesAtAll(paths) : [staged.file]
    if (files.length === 0) return 0
    const answered = await askSql(sql, files, staged === undefined ? tally : { ...tally })
    return await printSql(answered, options, output, terminal)
  } finally {
    staged?.remove()
  }
}
