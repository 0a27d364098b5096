/** What is said when `throughline traces` finds nothing. */
import type { NoTraces } from '../../query/traces/list-traces.js'
import { plural } from '../terminal/plural.js'
import { printable } from '../terminal/printable.js'

/** What was asked for by name. */
interface Asked {
  action?: string
  route?: string
  service?: string
}

export function noTracesText(answer: NoTraces, asked: Asked, directory: string): string {
  const { spanFiles, unreadableLines: torn, unmatched, leftOut } = answer
  const files = plural(spanFiles, 'span file')
  const traces = plural(unmatched, 'trace')
  const read = `  Looked in:  ${printable(directory)}: ${files}, ${traces}.`
  return [
    'throughline: no trace found.',
    torn > 0 ? `${read} Lines that could not be read: ${torn}.` : read,
    ...(leftOut > 0 ? [`  Left out:   at least ${leftOut} older ones, more than fit.`] : []),
    ...knownNames('Actions', asked.action, answer.actions),
    ...knownNames('Routes', asked.route, answer.routes),
    ...knownNames('Services', asked.service, answer.services),
    ...(unmatched > 0 ? NARROW : NONE),
    '',
  ].join('\n')
}

function knownNames(what: string, name: string | undefined, known: readonly string[]): string[] {
  if (name === undefined || known.length === 0) return []
  return [`  ${what} that there are: ${known.map(printable).join(', ')}`]
}

const NARROW = ['  Check that: the filter is not too narrow, and --since not too late.']

const NONE = [
  '  Check that: --dir or THROUGHLINE_DIR names the directory the app writes to;',
  '              the app has instrumentation.ts, and no OTLP endpoint (spans go there instead of into files);',
  '              the request is a few seconds old, for spans are written in batches.',
]
