/** Asks and prints. What answers one kind of question is loaded for it alone. */
import type { Output } from '../terminal/output.js'
import type { Terminal } from '../terminal/terminal.js'
import { aggregateOf, type LogsOptions, type Question } from './options.js'
import { answerLines } from './print-lines.js'

/** How many lines, groups or rows there are. */
export async function answer(
  question: Question,
  options: LogsOptions,
  output: Output,
  terminal: Terminal,
): Promise<number> {
  const rest = [options, output, terminal] as const
  const { sql, follow, context } = options
  const aggregate = aggregateOf(options)
  if (sql !== undefined) return (await import('./print-sql.js')).answerSql(question, sql, ...rest)
  if (aggregate !== undefined)
    return (await import('./print-table.js')).answerTable(question, aggregate, ...rest)
  if (follow === true) return (await import('./follow.js')).follow(question, ...rest)
  if (context !== undefined) return (await import('./print-context.js')).answerContext(question, ...rest)
  return answerLines(question, ...rest)
}
