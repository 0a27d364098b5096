/** Which record a use belongs to: scope, name and key, checked and hashed. */
import { ThroughlineError } from '../errors.js'
import { hashKey } from '../telemetry/key-hash.js'
import { sha256 } from './sha256.js'

/** Longest key accepted, in characters. */
export const MAX_KEY_LENGTH = 255

const GLOBAL: unique symbol = Symbol.for('throughline.scope.global')

/** Whose keys these are: a user's or tenant's ID, or `global()`. Another scope never sees the result. */
export type Scope = string | typeof GLOBAL

/** Where a key was read, for messages. A field is also left out of the fingerprint. */
export type KeySource = { field: string } | { header: string }

/** A use's record and its name in telemetry. */
export interface Identity {
  /** SHA-256 of scope, name and key, 64 hex digits: the only form a store sees. */
  key: string
  /** Keyed hash of the same, 16 hex digits: the only form telemetry sees. */
  keyHash: string
}

/** The scope of everyone, said on purpose: for keys that no user owns, such as a provider's event ID. */
export function global(): Scope {
  return GLOBAL
}

/**
 * Names the record of a use.
 *
 * @param name of the guarded run, such as `createOrder`
 * @throws {TypeError} for a name or scope that is not given.
 * @throws {ThroughlineError} `IDEMPOTENCY_KEY_MISSING`, `IDEMPOTENCY_KEY_MALFORMED`
 */
export function identityOf(scope: unknown, name: unknown, key: unknown, source?: KeySource): Identity {
  assertNamed(scope, name)
  assertKey(key, name, source)
  // No string scope is empty, so the empty part is free to mean `global()`.
  return hashed([typeof scope === 'string' ? scope : '', name, key])
}

/** Names the record of a payload within its scope and run, for a use that has no key. No key is empty: it is never the record of one. */
export function identityOfPayload(scope: string, name: string, fingerprint: string): Identity {
  return hashed([scope, name, '', fingerprint])
}

function assertNamed(scope: unknown, name: unknown): asserts name is string {
  if (typeof name !== 'string' || name === '') {
    throw new TypeError(`runOnce: "name" must be a non-empty string, received ${describe(name)}.`)
  }
  if (scope !== GLOBAL && (typeof scope !== 'string' || scope === '')) {
    throw new TypeError(
      `runOnce: "scope" must be a non-empty string (a user's or tenant's ID) or global(), received ${describe(scope)}.`,
    )
  }
}

function hashed(parts: string[]): Identity {
  return new HashedIdentity(sha256(parts.map((part) => `${Buffer.byteLength(part)}:${part}`).join('')), parts)
}

/** The hash for telemetry costs as much as the rest: it is made for the first who looks. */
class HashedIdentity implements Identity {
  readonly key: string
  readonly #parts: string[]
  #keyHash: string | undefined

  constructor(key: string, parts: string[]) {
    this.key = key
    this.#parts = parts
  }

  get keyHash(): string {
    this.#keyHash ??= hashKey(...this.#parts)
    return this.#keyHash
  }
}

// The key may be a secret or a stranger's text: a message tells its length, never the key.
function assertKey(key: unknown, name: string, source: KeySource | undefined): asserts key is string {
  const place = describeSource(source)
  if (key === undefined || key === null || key === '') {
    throw new ThroughlineError(
      'IDEMPOTENCY_KEY_MISSING',
      `"${name}" was called without an idempotency key.`,
      {
        why: `There is none in ${place}.`,
        fix: 'Send one with each attempt: the same for a retry, another for a new intent.',
      },
    )
  }
  if (typeof key !== 'string' || key.length > MAX_KEY_LENGTH || !/^[\x21-\x7e]+$/.test(key)) {
    throw new ThroughlineError(
      'IDEMPOTENCY_KEY_MALFORMED',
      `"${name}" was called with an idempotency key that is not allowed.`,
      {
        why: `The value in ${place} is ${describe(key)}; a key has 1–${MAX_KEY_LENGTH} characters of printable ASCII without spaces.`,
        fix: 'Send a random ID, such as crypto.randomUUID().',
      },
    )
  }
}

function describeSource(source: KeySource | undefined): string {
  if (source === undefined) return 'the option "key"'
  return 'field' in source ? `the field "${source.field}"` : `the header "${source.header}"`
}

function describe(value: unknown): string {
  if (typeof value !== 'string') return value === null ? 'null' : typeof value
  return value === '' ? 'an empty string' : `a string of ${value.length} characters`
}
