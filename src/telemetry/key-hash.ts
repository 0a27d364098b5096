/** The only form in which an idempotency key reaches telemetry. */
import { createHmac } from 'node:crypto'

/**
 * HMAC-SHA-256 of the parts, first 16 hex digits. Parts are length-prefixed, so `['a', 'bc']` and
 * `['ab', 'c']` differ.
 *
 * The secret is `THROUGHLINE_HASH_SECRET`. Without one the hash still hides random keys (a UUID), but a
 * key that can be guessed can be confirmed by whoever reads the traces.
 */
export function hashKey(...parts: string[]): string {
  const hmac = createHmac('sha256', process.env.THROUGHLINE_HASH_SECRET ?? 'throughline')
  for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part)
  return hmac.digest('hex').slice(0, 16)
}
