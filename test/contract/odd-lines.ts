/** Lines of JSON as pino writes them, and as others do, and filters that ask for them. */
import fc from 'fast-check'
import type { Comparison, FieldPath, Filter, Literal } from '../../src/query/filter/ast.ts'
import type { LogEntry } from '../../src/query/filter/match.ts'
import { existences, filtersOf, memberships } from './filters.ts'

export interface OddLine {
  ns: bigint
  text: string
}

const VALUES: readonly unknown[] = [
  ...[
    0, 1, 5, -7, 9, 10, 99, 100, 199, 200, 249, 250, 251, 250.5, 500, 999, 1000, 1e6, 1e15, 1e21, 1e-7, -250,
    0.5,
  ],
  ...[
    '0',
    '5',
    '5.0',
    ' 5 ',
    '+5',
    '005',
    '-0',
    '-7',
    '250',
    '1e3',
    '0x10',
    'NaN',
    '9007199254740993',
    '1-2',
    '-',
  ],
  ...[
    true,
    false,
    null,
    'true',
    'null',
    '',
    'warn',
    'WARN',
    'a',
    'A',
    'a"b',
    'a\\b',
    'a\nb',
    '\u0007',
    'a/b',
    '/',
  ],
  ...[
    'İstanbul',
    'istanbul',
    'Kelvin',
    'kelvin',
    'ΟΔΟΣ',
    'οδος',
    'straße',
    '注文',
    '🙂',
    '\u2028',
    '<a>&',
    "it's",
    '\ud800',
  ],
  ...[
    '2026-11-24',
    '2026-11-24T10:00:00Z',
    '"level":50',
    '\\"level\\":50',
    '(a|b)*',
    '^$.',
    'a,b',
    '{"a":1}',
    'x y',
  ],
  ...[
    [],
    ['a', 'b'],
    [1, 2],
    [{ a: 1 }],
    {},
    { a: 1 },
    { b: { c: 'İ' } },
    { 'a.b': 5 },
    { a: 'x"y', b: [true] },
  ],
]

const NAMES = ['level', 'status', 'duration_ms', 'msg', 'a', 'a.b', 'tags', 'x"y', 'naïve', 'é/b', '']

/** As they may be written by hand, or by another program. */
const BY_HAND = [
  '{ "id" : "spaced" , "level" : 50 , "duration_ms" : 300 , "a" : { "b" : 2 } }',
  '{"id":"twice","level":30,"twice":1,"level":50,"twice":2,"a":1,"a":{"b":"x"}}',
  '{"id":"escaped","msg":"\\u0130stanbul \\u212aelvin","path":"\\/checkout\\/x","na\\u00efve":"\\u6ce8\\u6587","err":{"message":"\\u003ca\\u003e"}}',
  '{"id":"nested","tags":["a","b"],"a.b":1,"a":{"b":2,"a":{"b":3}},"x\\"y":"z","0":"zero","list":[[5]]}',
  '{"id":"error","level":50,"correlation_id":"order-1","duration_ms":251.5,"status":500,"msg":"request failed","idempotency":{"hit":true,"origin":{"trace_id":"a1"}},"err":{"type":"TypeError","message":"can\'t read","stack":"TypeError: …\\n    at a"}}',
  '{"id":"done","level":"info","status":"200","msg":"request completed","path":"/checkout/x"}',
  '{"id":"order","msg":"注文","err":"can\'t read"}',
]

/** A few hundred, their times ascending by 7 ms; a third of them has a `time`. */
export function oddLines(firstMs: number): OddLine[] {
  const made = VALUES.flatMap((value, index) =>
    NAMES.map((name, place) => {
      const at = index * NAMES.length + place
      return (ms: number) =>
        JSON.stringify({
          id: `odd-${at}`,
          ...(at % 2 === 0 && { level: (1 + (at % 6)) * 10 }),
          ...(at % 3 === 0 && { time: ms }),
          [name]: value,
        })
    }),
  )
  return [...BY_HAND.map((text) => () => text), ...made].map((textAt, index) => {
    const ms = firstMs + 7 * (index + 1)
    return { ns: BigInt(ms) * 1_000_000n, text: textAt(ms) }
  })
}

/** Filters of the names and values that the lines have. */
export function filtersOfLines(lines: readonly LogEntry[], firstMs: number): fc.Arbitrary<Filter> {
  const names = [
    'time',
    'twice',
    'nowhere',
    'a.a.b',
    'a.0',
    'tags.0',
    'tags.0.a',
    'tags.length',
    'list.0.0',
    '0',
  ]
  const nested = [
    'err',
    'err.message',
    'idempotency.hit',
    'idempotency.origin.trace_id',
    'b.c',
    'msg.a',
    'a.b.c',
  ]
  const field = fc.oneof(
    fc.constantFrom(...names, ...nested, ...NAMES).map((name) => name.split('.') as unknown as FieldPath),
    fc.constantFrom(...NAMES).map((name): FieldPath => [name]),
  )
  const scalars = lines
    .flatMap((line) => Object.values(line))
    .filter((value): value is Literal => typeof value !== 'object' || value === null)
  const value: fc.Arbitrary<Literal> = fc.oneof(
    fc.constantFrom(...new Set(scalars)),
    fc.constantFrom<Literal>(
      30,
      50,
      firstMs + 700,
      firstMs + 2_000,
      'i',
      'K',
      'b","',
      '1,2',
      '"a":1',
      'i̇',
      'σ',
      'ß',
    ),
  )
  const comparison: fc.Arbitrary<Comparison> = fc.constantFrom('=', '!=', '<', '<=', '>', '>=', '~', '~')
  return filtersOf(
    fc.record({ field, comparison, value }).map((parts): Filter => ({ kind: 'compare', ...parts })),
    fc
      .record({ field, value: fc.constantFrom('^a', '\\d+', '[A-Z]{2}', 'n$', '\\p{L}') })
      .map((parts): Filter => ({ kind: 'compare', comparison: '~~', ...parts })),
    existences(field),
    memberships(field, value),
  )
}
