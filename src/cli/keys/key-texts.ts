/** What the table of keys and the timeline of one say alike. */
import type { KeySummary } from '../../query/keys/idempotency-keys.js'
import type { Terminal } from '../terminal/terminal.js'
import { unreadableNote } from '../terminal/unreadable-note.js'

/** `won 1 · replay 3` */
export function outcomesText({ outcomes }: KeySummary, { glyphs }: Terminal): string {
  return Object.entries(outcomes)
    .map(([outcome, count]) => `${outcome} ${count}`)
    .join(` ${glyphs.separator} `)
}

/** Red where a caller was refused for good or nothing is known, yellow where a run was in the way of another. */
export function outcomeStyle(
  outcome: string | undefined,
  { colors }: Terminal,
): ((text: string) => string) | undefined {
  switch (outcome) {
    case 'mismatch':
    case 'unknown':
      return colors.red
    case 'busy':
    case 'takeover':
      return colors.yellow
    case 'won':
      return colors.green
    default:
      return undefined
  }
}

/** What a reader should know of the files, if anything. */
export function notesOn(read: { isTruncated: boolean; unreadableLines: number }): string[] {
  const { isTruncated, unreadableLines: torn } = read
  return [
    ...(isTruncated ? ['There is more than fits: the earliest uses are left out.'] : []),
    ...(torn > 0 ? [unreadableNote(torn)] : []),
  ]
}
