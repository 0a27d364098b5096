import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { appendSqlComment, commentSql, commentTemplate } from '../../src/clients/database/sql-comment.ts'
import { setClientSettings } from '../../src/clients/settings.ts'
import { createContext, runInContext, runWithCorrelation } from '../../src/context/index.ts'

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

  it.each([
    ['SELECT 1;', "SELECT 1 /*id='a'*/;"],
    ['SELECT 1 ;\n ', "SELECT 1 /*id='a'*/ ;\n "],
    ['SELECT 1; SELECT 2;;', "SELECT 1; SELECT 2 /*id='a'*/;;"],
    ['SELECT 1 -- why?', "SELECT 1 -- why? /*id='a'*/"],
    ['SELECT 1 /* hint */', "SELECT 1 /* hint */ /*id='a'*/"],
    [';', " /*id='a'*/;"],
  ])('closes %j as it was closed', (sql, commented) => {
    expect(appendSqlComment(sql, { id: 'a' })).toBe(commented)
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
        for (const end of ['\n', ' ; ', ';;\n'])
          expect(appendSqlComment(once + end, { correlation_id: 'another' })).toBe(once + end)
      }),
    )
  })
})

describe('commentSql', () => {
  afterEach(() => setClientSettings({ sqlComments: true }))

  it('says what is known of the request at that time', () => {
    const request = createContext({ correlationId: 'order-7', traceId: 'a'.repeat(32) })
    runInContext(request, () => {
      expect(commentSql(SQL)).toBe(`${SQL} /*correlation_id='order-7'*/`)
      request.route = '/orders'
      request.action = { name: 'createOrder' }
      const commented = `${SQL} /*action='createOrder',correlation_id='order-7',route='%2Forders'*/`
      expect(commentSql(SQL)).toBe(commented)
      expect(commentSql(commented)).toBe(commented)
      expect(commentTemplate(['a = ', ''])).toEqual(['a = ', commented.slice(SQL.length)])
      expect(commentTemplate([])).toEqual([])
    })
  })

  it('says nothing outside a request, and nothing when comments are off', () => {
    expect(commentSql(SQL)).toBe(SQL)
    setClientSettings({ sqlComments: false })
    runWithCorrelation('order-7', () => expect(commentSql(SQL)).toBe(SQL))
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
