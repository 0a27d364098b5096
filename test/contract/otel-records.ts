/** Log records as stores of OpenTelemetry's have them, a few of them odd, and filters that ask for them. */
import fc from 'fast-check'
import type { Comparison, FieldPath, Filter, Literal } from '../../src/query/filter/ast.ts'
import { existences, filtersOf, memberships } from './filters.ts'

export interface TestRecord {
  ns: bigint
  severityNumber: number
  severityText: string
  body: string
  service: string
  traceId: string
  spanId: string
  flags: number
  /** Each has an `id` of its own. */
  attributes: Record<string, string>
}

const FIRST_NS = 1_795_000_000_000_000_000n

/** What an attribute may be: numbers in many forms, capitals of other tongues, what quotes and escapes. */
const VALUES = [
  ...[
    '0',
    '5',
    '5.0',
    ' 5 ',
    '+5',
    '005',
    '5e0',
    '-7',
    '251.5',
    '500',
    '1e21',
    '1e400',
    '0x10',
    'NaN',
    'Infinity',
    '.5',
  ],
  ...[
    'true',
    'false',
    'null',
    'warn',
    'a',
    'A',
    'ab',
    'İstanbul',
    'istanbul',
    'Kelvin',
    'kelvin',
    'ΟΔΟΣ',
    'straße',
    '\u017ftop',
    '\u212aelvin',
    '\u0130',
  ],
  ...[
    "it's",
    '"quoted"',
    'back\\slash',
    'tab\there',
    'line\nend',
    'nul\0',
    '100%',
    'a_b',
    '注文',
    '🙂',
    '\u2028',
    '$1',
  ],
  ...[
    '{"a":1}',
    '[1,2]',
    '9007199254740993',
    '0.1',
    '0.30000000000000004',
    '2026-11-24',
    '1795000000123',
    'x'.repeat(300),
  ],
]

const NAMES = [
  'status',
  'duration_ms',
  'action',
  'user.name',
  'idempotency.hit',
  'err.message',
  "weird name'",
  'a.b.c',
]

const SEVERITIES = [
  { severityNumber: 0, severityText: '' },
  { severityNumber: 0, severityText: 'WARN' },
  { severityNumber: 0, severityText: 'odd' },
  { severityNumber: 1, severityText: 'TRACE' },
  { severityNumber: 9, severityText: 'INFO' },
  { severityNumber: 10, severityText: 'INFO2' },
  { severityNumber: 13, severityText: '' },
  { severityNumber: 17, severityText: 'error' },
  { severityNumber: 24, severityText: 'FATAL4' },
]

const SERVICES = ['shop', 'mail', '']
const TRACES = ['', '4bf92f3577b34da6a3ce929d0e0e4736', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']

/** A few hundred; their times ascend. */
export function otelRecords(): TestRecord[] {
  const odd = VALUES.flatMap((value, index) =>
    NAMES.map((name, place): TestRecord => {
      const at = index * NAMES.length + place
      const traceId = TRACES[at % TRACES.length] as string
      return {
        // Seven milliseconds and a few nanoseconds apart, from a second later than the first.
        ns: FIRST_NS + 1_000_000_000n + BigInt(at) * 7_000_003n,
        ...(SEVERITIES[at % SEVERITIES.length] as (typeof SEVERITIES)[number]),
        body: at % 4 === 0 ? value : `request completed ${at}`,
        service: SERVICES[at % SERVICES.length] as string,
        traceId,
        spanId: traceId === '' ? '' : '00f067aa0ba902b7',
        flags: traceId === '' ? 0 : 1,
        attributes: {
          id: `odd-${at}`,
          [name]: value,
          ...(at % 5 === 0 && { status: String(200 + (at % 4) * 100) }),
        },
      }
    }),
  )
  return [
    errorRecord(),
    {
      ...errorRecord(),
      ns: FIRST_NS + 500_000_000n,
      body: '',
      attributes: { id: 'empty', '': 'e', status: '' },
    },
    ...odd,
  ]
}

function errorRecord(): TestRecord {
  return {
    ns: FIRST_NS + 123_456_789n,
    severityNumber: 17,
    severityText: 'ERROR',
    body: 'request failed',
    service: 'shop',
    traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
    spanId: '00f067aa0ba902b7',
    flags: 1,
    attributes: {
      id: 'error',
      correlation_id: 'order-1',
      duration_ms: '251.5',
      'idempotency.hit': 'true',
      'idempotency.origin.trace_id': 'a1',
      'exception.type': 'TypeError',
      'exception.message': "can't read",
      'exception.stacktrace': 'TypeError: …\n    at a',
      'err.digest': '42',
    },
  }
}

/**
 * Filters of the names and values that the records have.
 *
 * @param without what no attribute's name that is asked for has in it
 */
export function filtersOfRecords(
  records: readonly TestRecord[],
  without: readonly string[] = [],
): fc.Arbitrary<Filter> {
  const attributes = [...new Set(records.flatMap(({ attributes: each }) => Object.keys(each)))]
    // Shown as err.type and so on: found by that name too, but not shown by it.
    .filter((name) => !name.startsWith('exception.') && !without.some((part) => name.includes(part)))
  const names = [
    'time',
    'level',
    'msg',
    'service',
    'trace_id',
    'span_id',
    'trace_flags',
    'nowhere',
    'err.type',
  ]
  const field = fc
    .constantFrom(...names, ...attributes, 'err', 'idempotency', 'idempotency.origin')
    .map((name) => name.split('.') as unknown as FieldPath)
  const texts = records.flatMap(({ attributes: each, body }) => [...Object.values(each), body])
  const value: fc.Arbitrary<Literal> = fc.oneof(
    fc.constantFrom(...texts),
    fc.constantFrom(
      'warn',
      'ERROR',
      'shop',
      '',
      'true',
      'null',
      "'; DROP TABLE otel_logs; --",
      '{p1:String}',
    ),
    fc.constantFrom<Literal>(
      0,
      1,
      5,
      30,
      40,
      200,
      251.5,
      500,
      1_795_000_000_123,
      -7,
      1e21,
      true,
      false,
      null,
    ),
  )
  const comparison: fc.Arbitrary<Comparison> = fc.constantFrom('=', '!=', '<', '<=', '>', '>=', '~')
  const leaf = fc.oneof(
    fc.record({ field, comparison, value }).map((parts): Filter => ({ kind: 'compare', ...parts })),
    fc
      .record({ field, value: fc.constantFrom('^a', '\\d+', '[A-Z]{2}', 'n$', '\\p{L}') })
      .map((parts): Filter => ({ kind: 'compare', comparison: '~~', ...parts })),
    existences(field),
    memberships(field, value),
  )
  return filtersOf(leaf)
}
