/** Found lines with what the same request wrote around them, each group under a blank line. */

import { findLogsInContext } from '../../query/logs/find-logs.js'
import { lastOf } from '../../query/logs/last-of.js'
import type { ReadLine } from '../../query/logs/log-line.js'
import type { Output } from '../terminal/output.js'
import type { Terminal } from '../terminal/terminal.js'
import type { WriteLine } from './line-format.js'
import type { LogsOptions, Question } from './options.js'
import { lineFormatOf } from './print-lines.js'

interface ContextFormat {
  write: WriteLine
  /** Lines alone, for programs. */
  isBare: boolean
  terminal: Terminal
}

/** How many groups there are. */
export async function answerContext(
  question: Question,
  { context = 0, ...options }: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const format = await lineFormatOf(options, terminal)
  const groups = findLogsInContext(question, context)
  const isBare = options.json === true || options.csv === true
  if (isBare) await output.write(format.heading)
  const kept = options.count === undefined ? groups : await lastOf(groups, options.count)
  return printContext(kept, { write: format.write, isBare, terminal }, output)
}

/** Stops when nobody reads any more. */
async function printContext(
  groups: AsyncIterable<readonly ReadLine[]> | Iterable<readonly ReadLine[]>,
  format: ContextFormat,
  output: Output,
): Promise<number> {
  let found = 0
  for await (const group of groups) {
    if (output.isClosed) break
    const separator = found === 0 || format.isBare ? '' : '\n'
    found += 1
    await output.write(separator + group.map((line) => lineText(line, format)).join(''))
  }
  return found
}

/** A mark stands before what was found. */
function lineText(line: ReadLine, { write, isBare, terminal }: ContextFormat): string {
  const text = write(line)
  if (isBare) return text
  const { colors, glyphs } = terminal
  const mark = line.isFound ? `${colors.yellow(glyphs.found)} ` : '  '
  return text
    .split('\n')
    .map((part, index, { length }) => (index === length - 1 ? part : (index === 0 ? mark : '  ') + part))
    .join('\n')
}
