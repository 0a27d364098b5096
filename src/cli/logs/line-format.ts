/** How found lines are written. */
import type { FoundLine } from '../../query/logs/log-line.js'

/** A found line as a text, with its line end. */
export type WriteLine = (line: FoundLine) => string

export interface LineFormat {
  /** Above the lines. */
  heading: string
  write: WriteLine
}
