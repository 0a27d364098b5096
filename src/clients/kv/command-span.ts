/** The span of one KV command, or of a batch that is sent as one. */
import type { RequestContext } from '../../context/index.js'
import { ATTRIBUTE } from '../../telemetry/names.js'
import { type OpenCall, openCall } from '../client-span.js'

/** Where a command goes, as far as the client tells. */
export interface CommandPlace {
  database?: number | undefined
  serverAddress?: string | undefined
  serverPort?: number | undefined
  /** Commands in the batch, when it is one. */
  batchSize?: number | undefined
}

/** Sent by a client on its own account when it connects; a request did not ask for them. */
const HANDSHAKE = new Set(['HELLO', 'AUTH', 'CLIENT', 'SELECT', 'READONLY', 'INFO'])

/** @param operation upper-case name of the command */
export function isHandshake(operation: string): boolean {
  return HANDSHAKE.has(operation)
}

/**
 * Starts the span.
 *
 * @param operation upper-case name of the command, or of the kind of batch; never its arguments
 * @param startedAt by `performance.now()`, when it began earlier
 */
export function openCommand(
  requestContext: RequestContext,
  operation: string,
  { database, serverAddress, serverPort, batchSize }: CommandPlace,
  startedAt?: number,
): OpenCall {
  return openCall(requestContext, {
    kind: 'kv',
    name: operation,
    operation,
    target: {
      system: 'redis',
      namespace: database === undefined ? undefined : String(database),
      serverAddress,
      serverPort,
    },
    attributes: batchSize === undefined ? undefined : { [ATTRIBUTE.dbBatchSize]: batchSize },
    ...(startedAt === undefined ? {} : { startedAt }),
  })
}
