import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fingerprintOf } from '../../src/idempotency/fingerprint.ts'

describe('fingerprintOf', () => {
  it('is the same whatever the order of properties, at any depth', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string(), fc.jsonValue()), async (value) => {
        expect(await fingerprintOf([value])).toBe(await fingerprintOf([reversed(value)]))
      }),
      { numRuns: 200 },
    )
  })

  it('is the same whatever the order of Map entries, Set members and form fields', async () => {
    const one = {
      map: new Map([
        ['a', 1],
        ['b', 2],
      ]),
      set: new Set([1, { x: 1 }]),
      form: formOf([
        ['a', '1'],
        ['b', '2'],
      ]),
    }
    const two = {
      form: formOf([
        ['b', '2'],
        ['a', '1'],
      ]),
      set: new Set([{ x: 1 }, 1]),
      map: new Map([
        ['b', 2],
        ['a', 1],
      ]),
    }
    expect(await fingerprintOf(one)).toBe(await fingerprintOf(two))
  })

  it('differs for different values of every kind', async () => {
    const bytes = new Uint8Array([1, 2, 3])
    const values: unknown[] = [
      undefined,
      null,
      true,
      false,
      0,
      1,
      Number.NaN,
      1n,
      '',
      '1',
      'null',
      '1n',
      {},
      { a: undefined },
      { a: null },
      { a: 1 },
      { a: '1' },
      { ab: '' },
      { a: 'b' },
      { a: 1, b: 2 },
      [],
      [undefined],
      [[]],
      [1, 2],
      [2, 1],
      ['1', '2'],
      ['12'],
      ['1,2'],
      new Date(0),
      new Date(1),
      new Date(Number.NaN),
      new Date(0).toISOString(),
      new Map(),
      new Map([['a', 1]]),
      new Map([['a', '1']]),
      new Set(),
      new Set(['a']),
      new Set(['a', 1]),
      bytes,
      new Uint8Array([1, 2, 4]),
      new Uint16Array([1, 2, 3]),
      bytes.buffer,
      new DataView(bytes.buffer),
      /a/,
      /a/g,
      new URL('https://a.example/'),
      new URL('https://b.example/'),
      new URLSearchParams('a=1'),
      new FormData(),
      formOf([['a', '1']]),
      formOf([
        ['a', '1'],
        ['a', '2'],
      ]),
      formOf([
        ['a', '2'],
        ['a', '1'],
      ]),
      new File(['x'], 'a.txt'),
      new File(['y'], 'a.txt'),
      new File(['x'], 'b.txt'),
      new File(['x'], 'a.txt', { type: 'text/plain' }),
      new Blob(['x']),
      new Blob(['xx']),
    ]
    const fingerprints = await Promise.all(values.map((value) => fingerprintOf(value)))
    const seen = new Map<string, unknown>()
    for (const [index, fingerprint] of fingerprints.entries()) {
      expect(seen.get(fingerprint), `equal to value ${index}`).toBeUndefined()
      seen.set(fingerprint, values[index] ?? 'nothing')
    }
  })

  it('tells any two JSON values apart, and no value from itself', async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), fc.jsonValue(), async (one, two) => {
        const isSame = (await fingerprintOf(one)) === (await fingerprintOf(two))
        expect(isSame).toBe(isDeepStrictEqual(plain(one), plain(two)))
      }),
      { numRuns: 500 },
    )
  })

  it("leaves out React's $ACTION_ fields and the key's own field", async () => {
    const first = formOf([
      ['item', 'book'],
      ['key', 'k1'],
      ['$ACTION_ID_abc', ''],
      ['$ACTION_1:0', '{}'],
    ])
    const retry = formOf([
      ['key', 'k2'],
      ['$ACTION_ID_def', ''],
      ['item', 'book'],
    ])
    const bare = formOf([['item', 'book']])
    expect(await fingerprintOf(first, 'key')).toBe(await fingerprintOf(retry, 'key'))
    expect(await fingerprintOf(first, 'key')).toBe(await fingerprintOf(bare))
    expect(await fingerprintOf([1, first], 'key')).toBe(await fingerprintOf([1, bare]))
    expect(await fingerprintOf({ item: 1, key: 'k1' }, 'key')).toBe(await fingerprintOf({ item: 1 }))
    expect(await fingerprintOf([{ item: 1, key: 'k1' }], 'key')).toBe(await fingerprintOf([{ item: 1 }]))
    expect(await fingerprintOf({ nested: { key: 'k1' } }, 'key')).not.toBe(
      await fingerprintOf({ nested: {} }, 'key'),
    )
  })

  it('takes a file by name, size, type and content, not by its date or instance', async () => {
    const form = (lastModified: number) =>
      formOf([['file', new File(['content'], 'a.txt', { type: 'text/plain', lastModified })]])
    expect(await fingerprintOf(form(1))).toBe(await fingerprintOf(form(2)))
  })

  it('takes the bytes of a view, not those of the buffer behind it', async () => {
    const buffer = new Uint8Array([9, 1, 2, 9])
    const bytes = await fingerprintOf(new Uint8Array([1, 2]))
    expect(await fingerprintOf(buffer.subarray(1, 3))).toBe(bytes)
    expect(await fingerprintOf(Buffer.from([1, 2]))).toBe(bytes)
  })

  it('takes cycles, and instances that have content', async () => {
    class Decimal {
      constructor(readonly digits: string) {}
    }
    const cycle: Record<string, unknown> = { a: 1 }
    cycle.self = cycle
    expect(await fingerprintOf(cycle)).toBe(await fingerprintOf(cycle))
    expect(await fingerprintOf(new Decimal('1'))).not.toBe(await fingerprintOf(new Decimal('2')))
  })

  it.each([
    ['function', () => {}],
    ['symbol', Symbol('x')],
    ['Promise', Promise.resolve()],
    ['ReadableStream', new ReadableStream()],
  ])('refuses a payload with a %s in it, which cannot be compared', async (type, value) => {
    await expect(fingerprintOf({ value })).rejects.toThrow(
      new RegExp(`"payload" must hold values that can be compared, received a ${type}`),
    )
  })
})

function formOf(fields: [string, string | File][]): FormData {
  const form = new FormData()
  for (const [name, value] of fields) form.append(name, value)
  return form
}

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).map(([name, item]) => [name, reversed(item)] as const)
  const copy: object = Object.create(null)
  for (const [name, item] of entries.reverse()) Reflect.set(copy, name, item)
  return copy
}

// JSON has no -0.
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value))
}
