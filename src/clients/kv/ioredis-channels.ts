/**
 * ioredis ≥5.11: spans and hit flags from its channels.
 *
 * A command that waits in the offline queue (sent before the connection stands) is announced from the
 * connection, not from the caller, so it gets no span; the next ones do.
 */
import { traceKvChannels } from './command-channel.js'
import type { KeyTest } from './key-patterns.js'

/** Subscribes to ioredis' channels. Does so once per process, at any time. */
export function traceIoredis(isIdempotencyKey: KeyTest): void {
  traceKvChannels(
    {
      client: 'ioredis',
      command: 'ioredis:command',
      batch: 'ioredis:batch',
      connect: 'ioredis:connect',
      argumentsOf: (message) => message.args ?? [],
    },
    isIdempotencyKey,
  )
}
