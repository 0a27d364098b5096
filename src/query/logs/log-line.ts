/** A line of a log, read. */
import type { LogEntry } from '../filter/match.js'

export interface FoundLine {
  /** As it was written. */
  text: string
  entry: LogEntry
}

/** One of all lines, found or not. */
export interface ReadLine extends FoundLine {
  isFound: boolean
}
