/** Found lines, one after the other. */

import { findLogs } from '../../query/logs/find-logs.js'
import type { FoundLine } from '../../query/logs/log-line.js'
import type { Output } from '../terminal/output.js'
import { printableJson } from '../terminal/printable.js'
import type { Terminal } from '../terminal/terminal.js'
import type { LineFormat } from './line-format.js'
import type { LogsOptions, Question } from './options.js'
import { renderLog } from './render-log.js'

export async function lineFormatOf(
  { json, csv, fields }: LogsOptions,
  terminal: Terminal,
): Promise<LineFormat> {
  if (json === true) return { heading: '', write: ({ text }) => `${printableJson(text.trim())}\n` }
  if (csv === true) return (await import('./csv-lines.js')).csvFormat(fields)
  return { heading: '', write: ({ entry }) => renderLog(entry, fields, terminal) }
}

/** How many there are. */
export async function answerLines(
  question: Question,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const format = await lineFormatOf(options, terminal)
  return printLines(await linesOf(question, options.count), format, output)
}

/** All, or the last so many, in the order in which they were written. */
async function linesOf(
  question: Question,
  count: number | undefined,
): Promise<AsyncIterable<FoundLine> | FoundLine[]> {
  const { remote, filter } = question
  if (count === undefined) return remote === undefined ? findLogs(question) : remote.find({ filter })
  if (remote === undefined)
    return (await import('../../query/logs/last-logs.js')).findLastLogs(question, count)
  const latestFirst = []
  for await (const line of remote.find({ filter, limit: count, direction: 'backward' }))
    latestFirst.push(line)
  return latestFirst.reverse()
}

/** Returns how many there are. Stops when nobody reads any more. */
export async function printLines(
  lines: AsyncIterable<FoundLine> | Iterable<FoundLine>,
  { heading, write }: LineFormat,
  output: Output,
): Promise<number> {
  let found = 0
  for await (const line of lines) {
    if (output.isClosed) break
    if (found === 0 && heading !== '') await output.write(heading)
    found += 1
    const written = output.write(write(line))
    if (written !== undefined) await written
  }
  return found
}
