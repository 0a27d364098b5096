/** node-redis 6 (`redis`, `@redis/client`): spans and hit flags from its channels. */
import { traceKvChannels } from './command-channel.js'

/** Subscribes to node-redis' channels. Call once per process, at any time. */
export function traceNodeRedis(isIdempotencyKey: (key: string) => boolean): void {
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
