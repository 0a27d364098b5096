/** node-redis ≥5.12 (`redis`, `@redis/client`): spans and hit flags from its channels. */
import { traceKvChannels } from './command-channel.js'
import type { KeyTest } from './key-patterns.js'

/** Subscribes to node-redis' channels. Does so once per process, at any time. */
export function traceNodeRedis(isIdempotencyKey: KeyTest): void {
  traceKvChannels(
    {
      client: 'node-redis',
      command: 'node-redis:command',
      batch: 'node-redis:batch',
      connect: 'node-redis:connect',
      // The first argument is the command itself.
      argumentsOf: (message) => message.args?.slice(1) ?? [],
    },
    isIdempotencyKey,
  )
}
