/** What is said when `throughline keys` finds nothing. */
import type { NoKey, NoKeys } from '../../query/keys/idempotency-keys.js'
import { printable } from '../terminal/printable.js'

/** Why the list is empty, and what to do. */
export function noKeysText(answer: NoKeys, action: string | undefined, directory: string): string {
  const ofAction = action === undefined ? '' : ` of action "${printable(action)}"`
  if (answer.usedOnce > 0) {
    const were = answer.usedOnce === 1 ? '1 key was' : `${answer.usedOnce} keys were`
    return [
      `throughline: no key${ofAction} was used again.`,
      readText(answer, directory),
      `  ${were} used once: --all lists them too.`,
      '',
    ].join('\n')
  }
  const known = answer.actions.map(printable).join(', ')
  return [
    `throughline: no idempotency key${ofAction} was found.`,
    readText(answer, directory),
    ...(known === '' ? CHECKS : [`  Actions that have some: ${known}`]),
    '',
  ].join('\n')
}

/** Why no key, or more than one, is meant by a hash. */
export function noKeyText(answer: NoKey, hash: string, directory: string): string {
  if (answer.kind === 'ambiguous') {
    const candidates = answer.candidates.map((candidate) => `  ${printable(candidate)}\n`).join('')
    return `throughline: several keys' hashes begin with "${hash}". Give more of it:\n${candidates}`
  }
  return [
    `throughline: no use of a key found whose hash is "${hash}" or begins with it.`,
    readText(answer, directory),
    '  `throughline keys --all` lists the keys that are there.',
    ...CHECKS,
    '',
  ].join('\n')
}

const CHECKS = [
  '  Check that: --dir or THROUGHLINE_DIR names the directory the app writes to;',
  '              the app has instrumentation.ts, and no OTLP endpoint (spans go there instead of into files);',
  '              the request is a few seconds old, for spans are written in batches.',
]

function readText(answer: { spanFiles: number; unreadableLines: number }, directory: string): string {
  const { spanFiles, unreadableLines: torn } = answer
  const files = `  Looked in:  ${printable(directory)}: ${spanFiles} span files.`
  return torn > 0 ? `${files} Lines that could not be read: ${torn}.` : files
}
