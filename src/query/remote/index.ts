/** Log lines of stores that other machines write to as well. */

import { ThroughlineError } from '../../errors.js'
import { openClickhouse } from './clickhouse.js'
import type { RemoteLogs } from './contract.js'
import { openLoki } from './loki.js'

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
