/** A sieve keeps a line back only when the filter surely does not match it. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { matcherOf } from '../../src/query/filter/match.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { sieveOf } from '../../src/query/filter/sieve.ts'
import { askedFilter, askedLine } from './filters.ts'

/** Which lines of a block a filter's sieve lets pass. */
function passing(filter: Parameters<typeof sieveOf>[0], lines: readonly string[]): boolean[] {
  const block = Buffer.from(lines.join('\n'))
  const sieve = sieveOf(filter)
  sieve?.begin(block)
  let start = 0
  return lines.map((line) => {
    const end = start + Buffer.byteLength(line)
    const passes = sieve?.lets(start, end) ?? true
    start = end + 1
    return passes
  })
}

/** JSON of the same value in another spelling: spaces, escapes, a name that stands twice. */
const spellings: ((entry: object) => string)[] = [
  (entry) => JSON.stringify(entry),
  (entry) => JSON.stringify(entry, null, ' ').replaceAll('\n', '\r'),
  (entry) => JSON.stringify(entry).replaceAll('"a', '"\\u0061'),
  (entry) => JSON.stringify(entry).replaceAll('level', 'lev\\u0065l'),
  (entry) => JSON.stringify(entry).replaceAll('/', '\\/'),
  (entry) => JSON.stringify(entry).replace(/^\{(?=")/, '{"level":50,"a":"b","time":0,'),
  (entry) => ` ${JSON.stringify(entry).replaceAll('":', '"\t: ')}\r`,
  (entry) => JSON.stringify(entry).replaceAll('50', '5e1').replaceAll('1000', '1000.0'),
]

describe('a sieve', () => {
  it('lets every line pass that matches, however it is written', () => {
    const spelt = fc.record({ entry: askedLine, spell: fc.constantFrom(...spellings) })
    fc.assert(
      fc.property(askedFilter, fc.array(spelt, { minLength: 1, maxLength: 6 }), (filter, entries) => {
        const lines = entries.map(({ entry, spell }) => spell(entry))
        const matches = matcherOf(filter)
        const verdicts = passing(filter, lines)
        for (const [index, line] of lines.entries())
          if (matches(JSON.parse(line)))
            expect({ line, passes: verdicts[index] }).toEqual({ line, passes: true })
      }),
      { numRuns: 10_000 },
    )
  })

  const lines = [
    '{"level":30,"time":1,"route":"/cart","duration_ms":12.5,"msg":"request completed"}',
    '{"level":50,"time":2,"route":"/cart","err":{"message":"timed out","digest":"17"},"msg":"failed"}',
    '{"level":30,"time":3,"msg":"it says \\"route\\" and level"}',
    '{"level":40,"time":4,"level":50,"msg":"two levels"}',
  ]

  it.each([
    ['level >= error', [false, true, false, true]],
    ['not level = info', [false, true, false, true]],
    ['route = /cart', [true, true, false, false]],
    ['duration_ms > 12', [true, false, false, false]],
    ['duration_ms > 12.5', [false, false, false, false]],
    ['err.digest = 17', [false, true, false, false]],
    ["msg ~ 'FAIL' or duration_ms < 20", [true, true, true, false]],
    ['time in (3, 4)', [false, false, true, true]],
    ['exists(err.message) and level = error', [false, true, false, false]],
    ['level = fatal', [false, false, false, false]],
  ])('keeps lines back for %s', (filter, expected) => {
    expect(passing(parseFilter(filter), lines)).toEqual(expected)
  })

  it('is none where every line is left open', () => {
    expect(sieveOf(parseFilter('`größe` = 1'))).toBeUndefined()
    expect(sieveOf(parseFilter('tags.0 = x or `a"b` = 1'))).toBeUndefined()
  })
})
