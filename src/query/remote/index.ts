/** Log lines of stores that other machines write to as well. */
import { ThroughlineError } from '../../errors.js'
import type { Filter } from '../filter/ast.js'
import type { FoundLine } from '../logs/find-logs.js'
import { openClickhouse } from './clickhouse.js'
import { openLoki } from './loki.js'

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

const STORES: Readonly<Record<string, (address: URL) => RemoteLogs>> = {
  'loki+http:': (address) => openLoki(address, 'http:'),
  'loki+https:': (address) => openLoki(address, 'https:'),
  'clickhouse:': (address) => openClickhouse(address, 'http:'),
  'clickhouses:': (address) => openClickhouse(address, 'https:'),
}

/**
 * Nothing is asked before `find`.
 *
 * @param url `loki+http://…`, `loki+https://…`, `clickhouse://…`, `clickhouses://…`
 * @throws {ThroughlineError} `SOURCE_INVALID`
 */
export function openRemote(url: string): RemoteLogs {
  const address = URL.canParse(url) ? new URL(url) : undefined
  const open =
    address !== undefined && Object.hasOwn(STORES, address.protocol) ? STORES[address.protocol] : undefined
  if (address === undefined || open === undefined || address.host === '')
    throw new ThroughlineError('SOURCE_INVALID', 'The address of the logs is none that can be asked.', {
      why: 'It is no URL with a host that begins with loki+http, loki+https, clickhouse or clickhouses.',
      fix: 'Write it as loki+http://localhost:3100 or clickhouse://user:password@localhost:8123/default.',
    })
  return open(address)
}
