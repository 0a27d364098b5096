import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type HeaderReader,
  isCorrelationId,
  MAX_CORRELATION_ID_LENGTH,
  randomSpanId,
  randomTraceId,
  resolveCorrelation,
} from '../../src/context/index.ts'

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:=+/@-'

const hex = (length: number) =>
  fc
    .string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: length, maxLength: length })
    .filter((digits) => !/^0+$/.test(digits))
const validId = fc.string({
  unit: fc.constantFrom(...ALPHABET),
  minLength: 1,
  maxLength: MAX_CORRELATION_ID_LENGTH,
})
/** What any client can put in a header, and what a platform can hand on. */
const anyHeader: fc.Arbitrary<ReturnType<HeaderReader>> = fc.oneof(
  validId,
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.array(fc.string()),
  fc.constantFrom(undefined, null, ''),
)
const traceparent = fc
  .tuple(hex(32), hex(16), fc.constantFrom('00', '01', 'ff'))
  .map(([traceId, parentId, flags]) => ({ traceId, header: `00-${traceId}-${parentId}-${flags}` }))

describe('isCorrelationId', () => {
  it('takes 1–128 characters of its alphabet and nothing else', () => {
    fc.assert(fc.property(validId, (id) => isCorrelationId(id)))
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        const isInAlphabet = [...text].every((character) => ALPHABET.includes(character))
        expect(isCorrelationId(text)).toBe(text.length >= 1 && text.length <= 128 && isInAlphabet)
      }),
    )
  })

  it.each([
    ['nothing', ''],
    ['129 characters', 'a'.repeat(129)],
    ['a line break', 'order-1\nset-cookie: a=b'],
    ['a final line break', 'order-1\n'],
    ['the end of an SQL comment', 'order*/'],
    ['a quote', "order'"],
    ['a space', 'order 1'],
    ['two values', 'order-1,order-2'],
    ['letters beyond ASCII', 'ördèr'],
    ['a number', 7],
    ['a list', ['order-1']],
  ])('refuses %s', (_, value) => {
    expect(isCorrelationId(value)).toBe(false)
  })

  it('takes the IDs that other systems use', () => {
    const ids = [
      '4bf92f3577b34da6a3ce929d0e0e4736',
      '3f2504e0-4f89-11d3-9a0c-0305e82c3301',
      'Root=1-67891233-abcdef012345678912345678',
      'cdg1::iad1::x7k2p-1700000000000-0123456789ab',
      'user@example.com/42+7',
    ]
    for (const id of ids) expect(isCorrelationId(id)).toBe(true)
  })
})

describe('resolveCorrelation', () => {
  it('gives a safe ID and a valid trace ID, whatever the headers hold', () => {
    fc.assert(
      fc.property(anyHeader, anyHeader, anyHeader, (first, second, parent) => {
        const correlation = resolveCorrelation(
          readerOf({ 'x-correlation-id': first, 'x-request-id': second, traceparent: parent }),
          ['x-correlation-id', 'x-request-id'],
        )
        expect(isCorrelationId(correlation.correlationId)).toBe(true)
        expect(correlation.traceId).toMatch(/^(?!0+$)[0-9a-f]{32}$/)
      }),
    )
  })

  it('keeps no part of a header that it refuses', () => {
    const refused = fc
      .oneof(fc.string({ unit: 'binary', maxLength: 300 }), fc.array(validId))
      .filter((value) => !isCorrelationId(value))
    fc.assert(
      fc.property(refused, (value) => {
        const traceId = 'c'.repeat(32)
        const correlation = resolveCorrelation(
          readerOf({ 'x-correlation-id': value }),
          undefined,
          () => traceId,
        )
        expect(correlation).toEqual({
          correlationId: traceId,
          traceId,
          source: 'generated',
          isHeaderRefused: true,
        })
      }),
    )
  })

  it('prefers a valid header to traceparent, and joins the trace that traceparent names', () => {
    fc.assert(
      fc.property(validId, traceparent, (id, { traceId, header }) => {
        const correlation = resolveCorrelation(readerOf({ 'x-correlation-id': id, traceparent: header }))
        expect(correlation).toEqual({ correlationId: id, traceId, source: 'header', isHeaderRefused: false })
      }),
    )
  })

  it('takes the trace ID of traceparent when no header was sent, or a refused one', () => {
    fc.assert(
      fc.property(traceparent, fc.boolean(), ({ traceId, header }, isRefused) => {
        const correlation = resolveCorrelation(
          readerOf({ traceparent: header, ...(isRefused ? { 'x-correlation-id': 'no way' } : {}) }),
        )
        expect(correlation).toEqual({
          correlationId: traceId,
          traceId,
          source: 'traceparent',
          isHeaderRefused: isRefused,
        })
      }),
    )
  })

  it('makes a fresh ID of 32 hex digits, which is the trace ID too', () => {
    const { correlationId, traceId, source, isHeaderRefused } = resolveCorrelation(() => undefined)
    expect(correlationId).toMatch(/^[0-9a-f]{32}$/)
    expect(correlationId).toBe(traceId)
    expect([source, isHeaderRefused]).toEqual(['generated', false])
  })

  it('gives a chosen ID a trace ID of its own', () => {
    const correlation = resolveCorrelation(readerOf({ 'x-correlation-id': 'order-7' }))
    expect(correlation.correlationId).toBe('order-7')
    expect(correlation.traceId).toMatch(/^[0-9a-f]{32}$/)
  })

  it('lets the first header that was sent decide, valid or not', () => {
    const names = ['x-correlation-id', 'x-request-id']
    const read = (headers: Headers) => resolveCorrelation(readerOf(headers), names)
    type Headers = Record<string, string>
    expect(read({ 'x-correlation-id': 'a', 'x-request-id': 'b' }).correlationId).toBe('a')
    expect(read({ 'x-request-id': 'b' }).correlationId).toBe('b')
    expect(read({ 'x-correlation-id': '!', 'x-request-id': 'b' })).toMatchObject({
      source: 'generated',
      isHeaderRefused: true,
    })
  })

  it('refuses a header sent twice, as Node and as Fetch join it', () => {
    const fetchHeaders = new Headers([
      ['x-correlation-id', 'order-1'],
      ['x-correlation-id', 'order-2'],
    ])
    expect(resolveCorrelation((name) => fetchHeaders.get(name)).isHeaderRefused).toBe(true)
    expect(resolveCorrelation(readerOf({ 'x-correlation-id': 'order-1, order-2' })).isHeaderRefused).toBe(
      true,
    )
    expect(resolveCorrelation(readerOf({ 'x-correlation-id': ['order-1'] })).isHeaderRefused).toBe(true)
  })
})

describe('traceparent, as W3C Trace Context has it', () => {
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
  const parent = '00f067aa0ba902b7'

  it.each([
    ['version 00', `00-${trace}-${parent}-01`],
    ['version 00, unsampled', `00-${trace}-${parent}-00`],
    ['a later version', `cc-${trace}-${parent}-01`],
    ['a later version with more fields', `cc-${trace}-${parent}-01-what-the-future-will-be`],
    ['white space around it', ` 00-${trace}-${parent}-01\t`],
  ])('is read with %s', (_, header) => {
    expect(resolveCorrelation(readerOf({ traceparent: header }))).toMatchObject({
      correlationId: trace,
      traceId: trace,
      source: 'traceparent',
    })
  })

  it.each([
    ['version ff', `ff-${trace}-${parent}-01`],
    ['version 00 with more fields', `00-${trace}-${parent}-01-more`],
    ['version 00 with a final dash', `00-${trace}-${parent}-01-`],
    ['a later version whose fields run on', `cc-${trace}-${parent}-01.more`],
    ['a trace ID of zeros', `00-${'0'.repeat(32)}-${parent}-01`],
    ['a parent ID of zeros', `00-${trace}-${'0'.repeat(16)}-01`],
    ['an upper-case trace ID', `00-${trace.toUpperCase()}-${parent}-01`],
    ['an upper-case parent ID', `00-${trace}-${parent.toUpperCase()}-01`],
    ['upper-case flags', `00-${trace}-${parent}-0A`],
    ['a short trace ID', `00-${trace.slice(1)}-${parent}-01`],
    ['a missing field', `00-${trace}-${parent}`],
    ['two values', `00-${trace}-${parent}-01, 00-${trace}-${parent}-01`],
    ['a list', [`00-${trace}-${parent}-01`]],
  ])('is ignored with %s', (_, header) => {
    const correlation = resolveCorrelation(readerOf({ traceparent: header }))
    expect(correlation.source).toBe('generated')
    expect(correlation.traceId).not.toBe(trace)
  })
})

describe('random IDs', () => {
  it('have the form that OpenTelemetry wants, and do not repeat', () => {
    const traceIds = Array.from({ length: 1_000 }, randomTraceId)
    const spanIds = Array.from({ length: 1_000 }, randomSpanId)
    for (const id of traceIds) expect(id).toMatch(/^(?!0+$)[0-9a-f]{32}$/)
    for (const id of spanIds) expect(id).toMatch(/^(?!0+$)[0-9a-f]{16}$/)
    expect(new Set([...traceIds, ...spanIds]).size).toBe(2_000)
  })
})

function readerOf(headers: Record<string, ReturnType<HeaderReader>>): HeaderReader {
  return (name) => headers[name]
}
