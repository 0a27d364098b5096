import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DEFAULT_MAX_RESULT_BYTES, decodeResult, encodeResult } from '../../src/idempotency/codec.ts'

const roundTrip = (value: unknown) => decodeResult(encodeResult({ kind: 'returned', value }).text)

describe('the result codec', () => {
  it('returns values as they were given', async () => {
    const values = fc.anything({
      // devalue refuses that one name, because a reader could change its prototype by it: see below.
      key: fc.string().filter((name) => name !== '__proto__'),
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withSparseArray: true,
      withNullPrototype: true,
    })
    fc.assert(
      fc.property(values, (value) => {
        expect(roundTrip(value)).toStrictEqual({ kind: 'returned', value })
      }),
      { numRuns: 500 },
    )
  })

  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['a property that is undefined', { a: undefined }],
    ['a Date', { at: new Date(1_790_000_000_123) }],
    ['a Map in a Set', new Set([new Map([[{ a: 1 }, 2n]])])],
    ['a BigInt', 2n ** 80n],
    ['typed arrays', [new Uint8Array([1, 2]), new Float64Array([0.5, -0])]],
    ['odd numbers', [Number.NaN, Number.POSITIVE_INFINITY, -0]],
    ['unicode', 'naïve 日本語 👩‍👩‍👧 \u0000\u2028</script>'],
    ['a megabyte', 'x'.repeat(1_000_000)],
  ])('keeps %s', (_, value) => {
    expect(roundTrip(value)).toStrictEqual({ kind: 'returned', value })
  })

  it('keeps cycles and shared references', () => {
    const value: Record<string, unknown> = { list: [1] }
    value.self = value
    value.again = value.list
    const result = roundTrip(value)
    if (result.kind !== 'returned') throw new Error(`It is ${result.kind}.`)
    const copy = result.value as typeof value
    expect(copy.self).toBe(copy)
    expect(copy.again).toBe(copy.list)
  })

  it('stores the bytes of a view, never those around it', () => {
    const shared = new TextEncoder().encode('public,secret')
    const { text } = encodeResult({ kind: 'returned', value: [shared.subarray(0, 6), Buffer.from('pub')] })
    expect(text).not.toContain(Buffer.from('secret').toString('base64'))
    expect(Buffer.byteLength(text)).toBeLessThan(120)
    expect(decodeResult(text)).toStrictEqual({
      kind: 'returned',
      value: [new TextEncoder().encode('public'), new TextEncoder().encode('pub')],
    })
    const view = new DataView(shared.buffer, 7, 6)
    const read = roundTrip(view)
    expect(read.kind === 'returned' && read.value instanceof DataView && read.value.buffer.byteLength).toBe(6)
  })

  it('keeps what was thrown apart from what was returned', () => {
    const thrown = { kind: 'thrown', value: { digest: 'NEXT_REDIRECT;push;/orders/1;303;' } } as const
    expect(decodeResult(encodeResult(thrown).text)).toEqual(thrown)
  })

  it.each<[string, unknown, RegExp]>([
    ['a function', { order: { onPaid: () => {} } }, /Cannot stringify a function \(at "\.order\.onPaid"\)/],
    [
      'a function in a Map, whose key is data,',
      new Map([['alice@secret.example', () => {}]]),
      /Cannot stringify a function \(at "\.get\(…\)"\)/,
    ],
    ['a promise', Promise.resolve(1), /Cannot stringify a Promise/],
    ['a property named __proto__', JSON.parse('[{"__proto__":1}]'), /__proto__ keys \(at "\[0\]"\)/],
    [
      'a class instance',
      new (class Order {
        id = 1
      })(),
      /Cannot stringify arbitrary non-POJOs/,
    ],
    ['a symbol', Symbol('x'), /Cannot stringify a Symbol/],
  ])('makes %s done but not replayable, and says where it is', (_, value, why) => {
    expect(roundTrip(value)).toEqual({ kind: 'opaque', why: expect.stringMatching(why) })
  })

  it('makes a result above the limit done but not replayable', () => {
    const result = { kind: 'returned', value: 'é'.repeat(50) } as const
    expect(decodeResult(encodeResult(result, 200).text)).toEqual(result)
    expect(decodeResult(encodeResult(result, 100).text)).toEqual({
      kind: 'opaque',
      why: expect.stringMatching(/It has 1\d\d bytes encoded; the limit is 100/),
    })
    expect(roundTrip('x'.repeat(DEFAULT_MAX_RESULT_BYTES)).kind).toBe('opaque')
  })

  it.each([
    ['2|returned|[1]'],
    ['1|returned|[{"a":9}]'],
    ['1|returned|{'],
    ['1|other|[1]'],
    ['1|returned'],
    [''],
  ])('reads text that it did not write as done but not replayable: %s', (text) => {
    expect(decodeResult(text).kind).toBe('opaque')
  })

  it('reads any text without throwing', () => {
    fc.assert(fc.property(fc.string(), (text) => void decodeResult(`1|returned|${text}`)))
  })
})
