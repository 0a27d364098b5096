/** Records in Upstash Redis over REST, through `@upstash/redis` or `@vercel/kv`. */
import type { IdempotencyStore } from '../contract.js'
import type { GuaranteeOf, OnUnknown } from '../on-unknown.js'
import { orLoading, type Script, scriptOf, withoutCommand } from './redis-scripts.js'
import { type ScriptCalls, type ScriptStoreOptions, scriptStore } from './script-store.js'

/** `@upstash/redis` ≥1.34 and `@vercel/kv` 3: the methods called. */
export interface UpstashClient {
  evalsha(sha1: string, keys: string[], args: string[]): Promise<unknown>
  eval(script: string, keys: string[], args: string[]): Promise<unknown>
}

/** How an Upstash store is set up. */
export type UpstashStoreOptions<Choice extends OnUnknown = OnUnknown> = ScriptStoreOptions<Choice>

/**
 * A store over REST: one HTTP request to claim and one to complete. The promise is that of `redisStore`.
 *
 * @throws {TypeError} for a client that is not of these.
 * @example upstashStore(Redis.fromEnv(), { onUnknown: 'retain' })
 */
export function upstashStore<Choice extends OnUnknown>(
  client: UpstashClient,
  options: UpstashStoreOptions<Choice>,
): IdempotencyStore<GuaranteeOf<Choice>> {
  if (typeof client?.evalsha !== 'function' || typeof client.eval !== 'function' || 'sendCommand' in client) {
    throw new TypeError('upstashStore: "client" must be a client of @upstash/redis or @vercel/kv.')
  }
  return scriptStore('upstash', upstashCalls(client), options)
}

function upstashCalls(client: UpstashClient): ScriptCalls {
  return {
    async run(script, keys, args) {
      const { text, sha1 } = restVariantOf(script)
      try {
        return unmarked(
          await orLoading(
            () => client.evalsha(sha1, keys, args),
            () => client.eval(text, keys, args),
          ),
        )
      } catch (error) {
        throw withoutCommand(error)
      }
    },
  }
}

/** Stands before each text of a reply. */
const MARK = '='

const variants = new Map<Script, Script>()

/**
 * The same script with two differences. Upstash locks the whole database during a script unless the first
 * line says otherwise; Redis itself refuses that line. And the client parses each text of a reply as JSON: a
 * trace ID such as `12e4…` would come back as a number. A mark keeps texts from being JSON.
 */
function restVariantOf(script: Script): Script {
  let variant = variants.get(script)
  if (variant === undefined) {
    variant = scriptOf(`#!lua flags=allow-key-locking
local function run()
${script.text}
end
local reply = run()
if type(reply) ~= 'table' then return reply end
for index, value in ipairs(reply) do reply[index] = '${MARK}' .. value end
return reply
`)
    variants.set(script, variant)
  }
  return variant
}

function unmarked(reply: unknown): unknown {
  return Array.isArray(reply) ? reply.map((text) => String(text).slice(MARK.length)) : reply
}
