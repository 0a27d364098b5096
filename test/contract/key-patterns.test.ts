import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileKeyPatterns } from '../../src/clients/kv/key-patterns.ts'
import { DEFAULT_KEY_PATTERNS } from '../../src/clients/settings.ts'

const anyText = fc.string({ unit: 'binary' })

describe('compileKeyPatterns', () => {
  it('takes a pattern without a star for exactly that key', () => {
    fc.assert(
      fc.property(
        anyText.filter((text) => !text.includes('*')),
        anyText,
        (pattern, key) => {
          const isKey = compileKeyPatterns([pattern])
          expect(isKey(pattern)).toBe(true)
          expect(isKey(key)).toBe(key === pattern)
        },
      ),
    )
  })

  it('lets each star stand for any characters, none and line breaks too', () => {
    fc.assert(
      fc.property(fc.array(anyText, { minLength: 2, maxLength: 4 }), anyText, (parts, filling) => {
        const literals = parts.map((part) => part.replaceAll('*', ''))
        const isKey = compileKeyPatterns([literals.join('*')])
        expect(isKey(literals.join(filling))).toBe(true)
        expect(isKey(literals.join(''))).toBe(true)
      }),
    )
  })

  it('takes what any one of its patterns takes', () => {
    const isKey = compileKeyPatterns(['idem:*', '*:once', 'a|b'])
    expect(['idem:1', 'order:once', 'a|b'].map(isKey)).toEqual([true, true, true])
    expect(['xidem:1', 'order:once:2', 'a', 'b'].map(isKey)).toEqual([false, false, false, false])
  })

  it('takes no other sign of a regular expression as one', () => {
    const isKey = compileKeyPatterns(['order.[0-9]+?'])
    expect(isKey('order.[0-9]+?')).toBe(true)
    expect(isKey('order17')).toBe(false)
  })

  it('takes no key without a pattern', () => {
    expect(compileKeyPatterns([])('')).toBe(false)
  })

  it('answers alike, however often it is asked', () => {
    const isKey = compileKeyPatterns(DEFAULT_KEY_PATTERNS)
    for (let time = 0; time < 3; time += 1) {
      expect(isKey('idempotency:order-7')).toBe(true)
      expect(isKey('session:7')).toBe(false)
    }
  })
})
