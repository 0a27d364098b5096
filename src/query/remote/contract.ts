/** What every store of log lines does, whatever it is asked in. */
import type { Filter } from '../filter/ast.js'
import type { FoundLine } from '../logs/log-line.js'

export interface RemoteQuery {
  /** Default: every line. */
  filter?: Filter | undefined
  /** Epoch milliseconds; beside the times that the filter names. Default: see `RemoteLogs.defaultSpanMs`. */
  sinceMs?: number | undefined
  /** Epoch milliseconds. Default: now. */
  untilMs?: number | undefined
  /** How many lines at most. Default: all. */
  limit?: number | undefined
  /** `forward`: the oldest first. `backward`: the latest first. Default: `forward`. */
  direction?: 'forward' | 'backward' | undefined
}

export interface RemoteLogs {
  /** What is asked, for people: `Loki at localhost:3100`. */
  readonly name: string
  /** Where neither the filter nor the query says since when, so much before the end is looked through. Default: all. */
  readonly defaultSpanMs?: number
  /**
   * Lines as they come, in bounded memory. Each has been asked of the filter here, too, and so are those of a local
   * file found that say the same.
   *
   * @throws {ThroughlineError} `SOURCE_UNREACHABLE`, `SOURCE_REFUSED`
   */
  find(query: RemoteQuery): AsyncGenerator<FoundLine>
}
