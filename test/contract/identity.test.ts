import { describe, expect, it } from 'vitest'
import { isThroughlineError } from '../../src/errors.ts'
import { global, identityOf } from '../../src/idempotency/identity.ts'

describe('identityOf', () => {
  it('separates scopes, names and keys, wherever the border between them lies', () => {
    const parts = [
      ['ann', 'create', 'k1'],
      ['bob', 'create', 'k1'],
      ['ann', 'delete', 'k1'],
      ['ann', 'create', 'k2'],
      ['an', 'ncreate', 'k1'],
      ['ann', 'createk', '1'],
      [global(), 'create', 'k1'],
      ['global', 'create', 'k1'],
    ] as const
    const keys = parts.map(([scope, name, key]) => identityOf(scope, name, key).key)
    expect(new Set(keys).size).toBe(parts.length)
    expect(keys[0]).toMatch(/^[0-9a-f]{64}$/)
    expect(identityOf('ann', 'create', 'k1').key).toBe(keys[0])
  })

  it('knows the global scope of another copy of this package', () => {
    const copy = Symbol.for('throughline.scope.global')
    expect(identityOf(copy, 'create', 'k1')).toEqual(identityOf(global(), 'create', 'k1'))
  })

  it.each([[undefined], [null], ['']])('says that the key is missing, and where, for %s', (key) => {
    expect(codeOf(() => identityOf('ann', 'create', key))).toBe('IDEMPOTENCY_KEY_MISSING')
    expect(() => identityOf('ann', 'create', key, { field: 'orderKey' })).toThrow(/the field "orderKey"/)
    expect(() => identityOf('ann', 'create', key, { header: 'Idempotency-Key' })).toThrow(
      /the header "Idempotency-Key"/,
    )
  })

  it.each([['secret key'], ['sécret'], ['secret\n'], ['s'.repeat(256)], [42], [new File([], 'secret')]])(
    'refuses a malformed key without echoing it: %s',
    (key) => {
      const source = { field: 'orderKey' }
      expect(codeOf(() => identityOf('ann', 'create', key, source))).toBe('IDEMPOTENCY_KEY_MALFORMED')
      expect(() => identityOf('ann', 'create', key, source)).toThrow(/orderKey/)
      expect(() => identityOf('ann', 'create', key, source)).not.toThrow(/secret|sécret|sss|42/)
    },
  )

  it('takes every key of 1 to 255 printable characters', () => {
    for (const key of ['1', '!~', 'k'.repeat(255)])
      expect(identityOf('ann', 'create', key).keyHash).toHaveLength(16)
  })

  it.each([[undefined], [null], [''], [7], [Symbol('global')]])('insists on a scope: not %s', (scope) => {
    expect(() => identityOf(scope, 'create', 'k1')).toThrow(TypeError)
    expect(() => identityOf(scope, 'create', 'k1')).toThrow(
      /"scope" must be a non-empty string .* or global\(\)/,
    )
  })

  it('insists on a name', () => {
    expect(() => identityOf('ann', '', 'k1')).toThrow(
      /"name" must be a non-empty string, received an empty string/,
    )
  })
})

function codeOf(fn: () => unknown): string | undefined {
  try {
    fn()
  } catch (error) {
    if (isThroughlineError(error)) return error.code
    throw error
  }
  return undefined
}
