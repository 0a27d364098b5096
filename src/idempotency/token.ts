/**
 * Tokens. A token names its record, so that a store finds it from the token alone, and one run of it.
 * The store makes the token before it sends the claim: a claim that is sent twice is one claim.
 */
import { randomUUID } from 'node:crypto'
import type { ClaimToken } from './contract.js'

/** A token for the next run of a key. */
export function createToken(key: string): ClaimToken {
  return `${key}.${randomUUID()}`
}

/** The key a token was made for. */
export function keyOfToken(token: ClaimToken): string {
  return token.slice(0, token.lastIndexOf('.'))
}
