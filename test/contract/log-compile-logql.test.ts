/** A filter as stages of LogQL: what they say, and that no text of a filter ends its own. */
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import type { Filter } from '../../src/query/filter/ast.ts'
import { compileLogql, quoted } from '../../src/query/filter/compile-logql.ts'
import { parseFilter } from '../../src/query/filter/parse.ts'
import { startLoki } from '../support/loki.ts'

const loki = await startLoki()
afterAll(async () => loki?.stop())

const FILTERS = [
  'level >= warn',
  'level = error',
  'not (level >= warn)',
  "correlation_id = 'order-1'",
  "trace_id = '4bf92f3577b34da6a3ce929d0e0e4736' and service = shop",
  "msg ~ 'time(out)'",
  "msg ~ 'İ/注\"k'",
  "msg ~~ '^time'",
  'duration_ms > 250',
  'duration_ms < 0.5',
  "status in (500, '502', abc)",
  'status != 200',
  'not (action = createOrder)',
  'idempotency.hit = true',
  'err.type = TypeError',
  "(action = a and status = 5) or msg ~ 'lost'",
  'tags.0 = x',
  "time >= '2026-11-24T10:00:00Z'",
  'json = 5 or `a b` = x',
]

describe('a filter for Loki', () => {
  it.each(FILTERS)('compiles %s for lines of JSON', (source) => {
    expect(compileLogql(parseFilter(source), 'json')).toMatchSnapshot()
  })

  it.each(FILTERS)('compiles %s for log records', (source) => {
    expect(compileLogql(parseFilter(source), 'otlp')).toMatchSnapshot()
  })

  it('leaves out what is too much', () => {
    const many = Array.from({ length: 20_000 }, (_, index) => `'x${index}'`).join(', ')
    expect(compileLogql(parseFilter(`action in (${many})`), 'json')).toBe('')
    const wide = Array.from({ length: 12 }, (_, index) => `(a${index} = x and b${index} = y)`).join(' or ')
    expect(compileLogql(parseFilter(wide), 'json').length).toBeLessThan(60_000)
  })
})

const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('"', '\\', '`', '\n', 'x', '\0', '\ud800', '}', '|', '\ufeff') }),
)

describe('a text in LogQL', () => {
  it('ends where it ends, and is what it was', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const literal = quoted(text)
        // One token of Go: nothing in it is a quote but behind a backslash, and no backslash stands alone.
        expect(literal).toMatch(/^"(?:[ !#-[\]-~]|\\["\\]|\\U[0-9a-f]{8})*"$/)
        expect(unquoted(literal)).toBe(text.replace(/\p{Cs}/gu, '\ufffd'))
      }),
      { numRuns: 2_000 },
    )
  })

  it.skipIf(loki === undefined)(
    'is one text to Loki, in any filter',
    async () => {
      const filter = fc.record({
        name: anyText,
        value: anyText,
        comparison: fc.constantFrom('=' as const, '~' as const),
      })
      await fc.assert(
        fc.asyncProperty(filter, fc.constantFrom('json' as const, 'otlp' as const), async (parts, format) => {
          const of: Filter = {
            kind: 'and',
            left: { kind: 'compare', field: [parts.name], comparison: parts.comparison, value: parts.value },
            right: { kind: 'compare', field: ['action'], comparison: parts.comparison, value: parts.value },
          }
          const query = `{service_name="x"}${compileLogql(of, format)}`
          const response = await fetch(`${loki?.url}/loki/api/v1/format_query`, {
            method: 'POST',
            body: new URLSearchParams({ query }),
          })
          expect(response.status, `${query}: ${await response.text()}`).toBe(200)
        }),
        { numRuns: 500 },
      )
    },
    60_000,
  )
})

function unquoted(literal: string): string {
  return literal
    .slice(1, -1)
    .replace(/\\U([0-9a-f]{8})|\\(.)/g, (_, code, character) =>
      code === undefined ? character : String.fromCodePoint(Number.parseInt(code, 16)),
    )
}
