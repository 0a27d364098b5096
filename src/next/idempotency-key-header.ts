/**
 * The `Idempotency-Key` request header: a quoted string of the Structured Fields
 * (draft-ietf-httpapi-idempotency-key-header-07, RFC 9651 section 3.3.3). A bare value, as most clients
 * send it, is taken too.
 */
import { ThroughlineError } from '../errors.js'

/** Name of the header, lower case. */
export const IDEMPOTENCY_KEY_HEADER = 'idempotency-key'

/** One string, its quotes and backslashes escaped, and parameters, which mean nothing here. */
const QUOTED = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"\s*(?:;.*)?$/

/** What cannot be a part of a list, of parameters or of a quoted string. */
const BARE = /^[^\s",;]+$/

/**
 * The key, or undefined where there is no header.
 *
 * @throws {ThroughlineError} `IDEMPOTENCY_KEY_MALFORMED` for several values or broken quotes.
 * @example parseIdempotencyKey('"8e03978e-40d5-43dd-bc93-6894a57f9324"') // 8e03978e-…
 */
export function parseIdempotencyKey(value: string | null): string | undefined {
  const text = value?.trim() ?? ''
  if (text === '') return undefined
  const quoted = QUOTED.exec(text)?.[1]
  if (quoted !== undefined) return quoted.replace(/\\(.)/g, '$1')
  if (BARE.test(text)) return text
  throw new ThroughlineError('IDEMPOTENCY_KEY_MALFORMED', 'The header "Idempotency-Key" cannot be read.', {
    why: `It has ${text.length} characters, which are neither one quoted string nor one bare value.`,
    fix: 'Send one random ID in quotes, such as "8e03978e-40d5-43dd-bc93-6894a57f9324".',
  })
}
