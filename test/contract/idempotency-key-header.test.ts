import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isThroughlineError } from '../../src/errors.ts'
import { parseIdempotencyKey } from '../../src/next/idempotency-key-header.ts'

const visible = (without: string) =>
  fc
    .array(
      fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)),
      { minLength: 1 },
    )
    .map((characters) => characters.filter((character) => !without.includes(character)).join(''))
    .filter((text) => text !== '')

describe('the Idempotency-Key header', () => {
  it.each([
    ['"8e03978e-40d5-43dd-bc93-6894a57f9324"', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['  "a b"  ', 'a b'],
    [String.raw`"say \"a\\b\""`, String.raw`say "a\b"`],
    ['"a";q=1', 'a'],
    ['8e03978e-40d5-43dd-bc93-6894a57f9324', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
  ])('of %s is %s', (value, key) => {
    expect(parseIdempotencyKey(value)).toBe(key)
  })

  it.each([null, '', '   '])('of %j is none', (value) => {
    expect(parseIdempotencyKey(value)).toBeUndefined()
  })

  it.each(['"a", "b"', 'a, b', '"a', 'a"', '"a"b', '"a\\"', '"a\tb"', '"ä"', 'a b', 'a;q=1', '""x'])(
    'of %j is malformed, and the error does not quote it',
    (value) => {
      const error = errorOf(() => parseIdempotencyKey(value))
      expect(isThroughlineError(error) && error.code).toBe('IDEMPOTENCY_KEY_MALFORMED')
      if (value.length > 4) expect(String(error)).not.toContain(value)
    },
  )

  it('keeps any key that was quoted as the standard says, and any bare one', () => {
    fc.assert(
      fc.property(visible(''), (key) => {
        expect(parseIdempotencyKey(`"${key.replace(/["\\]/g, '\\$&')}"`)).toBe(key)
      }),
    )
    fc.assert(
      fc.property(visible('",;'), (key) => {
        expect(parseIdempotencyKey(key)).toBe(key)
      }),
    )
  })

  it('is a key, none or malformed, and nothing else, for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        try {
          expect(['string', 'undefined']).toContain(typeof parseIdempotencyKey(text))
        } catch (error) {
          expect(isThroughlineError(error) && error.code).toBe('IDEMPOTENCY_KEY_MALFORMED')
        }
      }),
    )
  })
})

function errorOf(fn: () => unknown): unknown {
  try {
    return fn()
  } catch (error) {
    return error
  }
}
