/** Where nothing was found, and what may have been meant. */

import type { ReadTally } from '../../query/files/ndjson-files.js'
import type { Filter } from '../../query/filter/ast.js'
import { fieldsOf, nearestName } from '../../query/filter/fields.js'
import { SAMPLED_LINES } from '../../query/logs/find-logs.js'
import type { RemoteLogs } from '../../query/remote/contract.js'
import { formatDuration } from '../terminal/durations.js'
import { plural } from '../terminal/plural.js'
import { printable } from '../terminal/printable.js'
import type { Question } from './options.js'

/** The whole text, with a line end at its end. */
export function nothingFoundText(question: Question, paths: readonly string[]): string {
  const { filter, names, remote } = question
  return [
    'throughline: no line found.',
    `  Looked in:  ${remote === undefined ? filesText(paths, question.tally) : remoteText(remote)}`,
    ...suggestions(filter, names),
    '  Check that: the filter is not too narrow, and --since not too late;',
    ...(remote === undefined
      ? ['              --dir, THROUGHLINE_DIR or a path names where the app writes its lines.']
      : ['              --source names the store that the lines are sent to.']),
    '',
  ].join('\n')
}

function filesText(paths: readonly string[], tally: ReadTally): string {
  const files = plural(tally.files, 'file')
  return `${paths.map(printable).join(', ')}: ${files}. ${brokenText(tally)}`.trimEnd()
}

function remoteText({ name, defaultSpanMs }: RemoteLogs): string {
  const span =
    defaultSpanMs === undefined ? '' : `, the last ${formatDuration(defaultSpanMs)} unless --since says more`
  return `${printable(name)}${span}.`
}

/** Empty when all lines could be read. */
export function brokenText({ unreadableLines: lines }: ReadTally): string {
  if (lines === 0) return ''
  return lines === 1 ? '1 line is no JSON and was left out.' : `${lines} lines are no JSON and were left out.`
}

function suggestions(filter: Filter | undefined, names: ReadonlySet<string>): string[] {
  if (filter === undefined || names.size === 0) return []
  return fieldsOf(filter)
    .map((field) => field.join('.'))
    .filter((name) => !names.has(name))
    .map((name) => {
      const nearest = nearestName(name, names)
      const meant = nearest === undefined ? '' : ` Did you mean "${printable(nearest)}"?`
      return `  None of the first ${SAMPLED_LINES} lines has a field "${printable(name)}".${meant}`
    })
}
