import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { appendSqlComment } from '../../src/clients/database/sql-comment.ts'

const SQL = 'SELECT * FROM orders WHERE id = $1'
/** Keys and values of any characters, whole or broken. */
const anyText = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('*', '/', "'", '\\', '%', '\0', '\n', '-', ';', '😀') }),
  fc.array(fc.integer({ min: 0, max: 0xffff })).map((units) => String.fromCharCode(...units)),
)
const anyFields = fc.dictionary(anyText, fc.option(anyText, { nil: undefined }))

describe('appendSqlComment', () => {
  it('writes one comment that no field can end early, and that reads back', () => {
    fc.assert(
      fc.property(anyFields, (fields) => {
        const commented = appendSqlComment(SQL, fields)
        expect(commented.startsWith(SQL)).toBe(true)
        const comment = commented.slice(SQL.length)
        const given = Object.entries(fields).filter(([, value]) => value !== undefined)
        if (given.length === 0) {
          expect(comment).toBe('')
          return
        }
        expect(comment).toMatch(/^ \/\*[^*]*\*\/$/)
        expect(comment).toMatch(/^[\x20-\x7e]+$/)
        const sent = given.map(([key, value]) => [wellFormed(key), wellFormed(value ?? '')])
        expect(decode(comment).sort()).toEqual(sent.sort())
      }),
      { numRuns: 500 },
    )
  })

  it('sorts the keys, so that one set of fields is one text', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ minLength: 1 }), fc.string(), { minKeys: 1 }), (fields) => {
        const reversed = Object.fromEntries(Object.entries(fields).reverse())
        const commented = appendSqlComment(SQL, fields)
        expect(appendSqlComment(SQL, reversed)).toBe(commented)
        const keys = decode(commented.slice(SQL.length)).map(([key]) => key)
        expect(keys).toEqual(keys.toSorted())
      }),
    )
  })

  it('has the sqlcommenter form', () => {
    expect(
      appendSqlComment('SELECT 1', {
        traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
        correlation_id: "a/b:c'd*e",
      }),
    ).toBe(
      "SELECT 1 /*correlation_id='a%2Fb%3Ac%27d%2Ae',traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/",
    )
  })

  it('leaves the statement as it is when there is nothing to say', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (sql) => {
        expect(appendSqlComment(sql, {})).toBe(sql)
        expect(appendSqlComment(sql, { correlation_id: undefined })).toBe(sql)
      }),
    )
    expect(appendSqlComment('', { correlation_id: 'a' })).toBe('')
  })

  it('adds nothing to a statement that bears its comment already', () => {
    fc.assert(
      fc.property(fc.string(), (id) => {
        const once = appendSqlComment(SQL, { correlation_id: id })
        expect(appendSqlComment(once, { correlation_id: 'another' })).toBe(once)
      }),
    )
  })
})

/** The pairs of a comment, as a sqlcommenter parser reads them. */
function decode(comment: string): string[][] {
  const [, body = ''] = /^ \/\*(.*)\*\/$/s.exec(comment) ?? []
  return body.split(',').map((pair) => {
    const [, key = '', value = ''] = /^([^=]*)='([^']*)'$/.exec(pair) ?? []
    return [decodeURIComponent(key), decodeURIComponent(value)]
  })
}

function wellFormed(text: string): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(new TextEncoder().encode(text))
}
