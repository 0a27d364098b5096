import { tracingChannel } from 'node:diagnostics_channel'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { traceMysql2 } from '../../src/clients/database/mysql2-channels.ts'
import { describeSql, type SqlDialect } from '../../src/clients/database/sql-text.ts'
import { recordSpans } from '../support/traced-requests.ts'

const recorder = recordSpans()
traceMysql2()

const DIALECTS = ['postgresql', 'mysql', 'sqlite'] as const

/** Each is whole for its server: none opens something that the next one could end. */
const TOKENS = ['a', 'E', '_utf8', '1', '4.2e-7', '0xF', '?', '$1', ':a', "'it''s'", "''", '/* "it\'s` */']
const COMPLETE_TOKENS: Record<SqlDialect, string[]> = {
  postgresql: [
    ...TOKENS,
    ...[
      '"it\'s"',
      '"a""\'"',
      '`',
      "'\\'",
      "E'\\''",
      "e'\\\\'",
      "N'\\'",
      "U&'\\'",
      "B'1'",
      "_E'\\'",
      "aE'\\'",
    ],
    ...["$$'$$", "$a$ $$ ' $b$a$", "$🔒$'$🔒$", "$e\u0301$'$e\u0301$", '🔒$$', 'a$b$', '1$$"$$', "$1$a$'$a$"],
    ...[
      "E'a'\n'\\''",
      "E'a' --'\n--'\r\n '\\''",
      "'a'\n'\\'",
      "--'\n",
      "--'\r",
      "/*/* ' */'*/",
      ":E'\\''",
      "@E'\\''",
    ],
  ],
  mysql: [
    ...TOKENS,
    ...[
      '`it\'s"`',
      "`a``'`",
      '"it\'s"',
      '"a""\'"',
      '"\\""',
      "'\\''",
      "'\\\\'",
      "_utf8'\\''",
      "N'\\''",
      "x'41'",
    ],
    ...["@'\\''", "@`'`", '@@a', '$a$', '1a', '5--5', "-- '\n", "--\t'\n", "--\u0001'\n", "#'\n", '/*/"*/'],
    ...['/*! a */', "/*!50000 'it\\'s' */", '/*M! "a" */', "/*! 'a */ b' */", "/*! it's */"],
  ],
  sqlite: [
    ...TOKENS,
    ...[
      '"it\'s"',
      '"a""\'"',
      "`it's`",
      "`a``'`",
      "[it's]",
      '[a"`]',
      "'\\'",
      "E'\\'",
      "x'41'",
      '$a$',
      '@a',
      '#a',
    ],
    ...["--'\n", "--'\r\n", "/* /* ' */"],
  ],
}
const BETWEEN = [' , ', '+', '(', ')=', '\n,\n', ';', ' ,\r\n']

const doubled = (value: string) => value.replaceAll("'", "''")
const escaped = (value: string) => value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")
/** How a value is written in a statement. */
const LITERALS: Record<SqlDialect, ((value: string) => string)[]> = {
  postgresql: [
    (value) => `'${doubled(value)}'`,
    (value) => `N'${doubled(value)}'`,
    (value) => `U&'${doubled(value)}'`,
    (value) => `E'${escaped(value)}'`,
    (value) => `e'${doubled(value.replaceAll('\\', '\\\\'))}'`,
    (value) => `E'a\\''\n-- it's\n'${escaped(value)}'`,
    (value) => `'a'\r'${doubled(value)}'`,
    (value) => `$$${value.replaceAll('$', '')}$$`,
    (value) => `$🔒$${value.replaceAll('$', '')}$🔒$`,
    (value) => `$e\u03019$${value.replaceAll('$', '')}$e\u03019$`,
  ],
  mysql: [
    (value) => `'${escaped(value)}'`,
    (value) => `'${doubled(value.replaceAll('\\', '\\\\'))}'`,
    (value) => `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`,
    (value) => `"${value.replaceAll('\\', '\\\\').replaceAll('"', '""')}"`,
    (value) => `_utf8mb4'${escaped(value)}'`,
    (value) => `n'${escaped(value)}'`,
  ],
  sqlite: [(value) => `'${doubled(value)}'`, (value) => `x'${doubled(value)}'`],
}

describe('the summary of a statement', () => {
  it.each([
    ['SELECT 1', 'SELECT'],
    ['select * from orders where id = $1', 'SELECT orders'],
    ['SELECT "id" FROM "public"."orders" AS "o" WHERE "o"."id" = $1', 'SELECT public.orders'],
    ['SELECT o.id FROM orders o JOIN order_items i ON i.order_id = o.id', 'SELECT orders order_items'],
    ['SELECT * FROM orders LEFT JOIN LATERAL (SELECT * FROM items) x ON true', 'SELECT orders items'],
    ['insert into "orders" ("item") values ($1) returning "id"', 'INSERT orders'],
    ['INSERT INTO orders(item) SELECT name FROM products', 'INSERT orders products'],
    ['INSERT INTO a (b) VALUES (1) ON CONFLICT (b) DO UPDATE SET b = 2', 'INSERT a'],
    ['UPDATE ONLY orders SET item = $1 WHERE id = 7', 'UPDATE orders'],
    ['UPDATE stock s SET n = n - 1 FROM orders o WHERE o.id = s.id', 'UPDATE stock'],
    ['DELETE FROM orders USING customers WHERE orders.c = customers.id', 'DELETE orders customers'],
    ['SELECT * FROM a JOIN b USING (id)', 'SELECT a b'],
    ['SELECT * FROM orders FOR UPDATE SKIP LOCKED', 'SELECT orders'],
    ['SELECT * FROM orders FOR NO KEY UPDATE OF orders', 'SELECT orders'],
    [
      'WITH recent AS (SELECT * FROM orders) SELECT * FROM recent JOIN customers ON true',
      'SELECT orders customers',
    ],
    ['WITH a AS (SELECT 1), b AS (SELECT 2) INSERT INTO log SELECT * FROM b', 'INSERT log'],
    ['SELECT EXTRACT(year FROM created) FROM orders', 'SELECT orders'],
    ["SELECT trim(both ' ' from name) FROM customers", 'SELECT customers'],
    ['SELECT 1 WHERE a IS DISTINCT FROM b', 'SELECT'],
    ['SELECT * FROM unnest($1::int[]) AS id', 'SELECT'],
    ['SELECT * FROM (SELECT id FROM orders) AS inner_orders', 'SELECT orders'],
    ['CREATE TABLE IF NOT EXISTS orders (id int)', 'CREATE orders'],
    ['TRUNCATE TABLE orders', 'TRUNCATE orders'],
    ['BEGIN', 'BEGIN'],
    ['savepoint s1', 'SAVEPOINT'],
    ["SET LOCAL lock_timeout = '1s'", 'SET'],
    ['/* FROM secret */ SELECT 1 -- FROM other\nFROM orders', 'SELECT orders'],
    ['SELECT 1; DROP TABLE orders', 'SELECT'],
    ['  ', 'QUERY'],
    ['', 'QUERY'],
    ['SELECT * FROM a, b', 'SELECT a'],
    ['SELECT * FROM a JOIN b ON 1 JOIN c ON 1 JOIN d ON 1', 'SELECT a b c'],
  ])('of %s is %s', (sql, summary) => {
    expect(describeSql(sql, 'postgresql').summary).toBe(summary)
  })

  it('reads the quotes of MySQL', () => {
    expect(describeSql('SELECT `id` FROM `shop`.`orders`', 'mysql').summary).toBe('SELECT shop.orders')
    expect(describeSql('SELECT "it\\"s FROM here" FROM orders # FROM there', 'mysql').summary).toBe(
      'SELECT orders',
    )
    expect(describeSql('REPLACE INTO orders VALUES (1)', 'mysql').summary).toBe('REPLACE orders')
  })

  it('reads the quotes of SQLite', () => {
    expect(describeSql("SELECT [it's] FROM [main].[my orders], 'x'", 'sqlite')).toMatchObject({
      summary: 'SELECT main.my orders',
      text: "SELECT [it's] FROM [main].[my orders], ?",
    })
    expect(describeSql('SELECT `a"` FROM `orders`', 'sqlite').summary).toBe('SELECT orders')
  })

  it('reads a table behind minus minus, which is no comment in MySQL', () => {
    expect(describeSql('SELECT a--5 FROM tt', 'mysql').summary).toBe('SELECT tt')
    expect(describeSql('SELECT a--5 FROM tt', 'postgresql').summary).toBe('SELECT')
  })

  it('takes no placeholder for a word', () => {
    expect(describeSql('SELECT $from, :from, @from FROM orders', 'sqlite').summary).toBe('SELECT orders')
  })
})

describe('the text of a statement', () => {
  it.each([
    ["SELECT 'secret'", 'SELECT ?'],
    ["SELECT 'it''s secret', 42, 4.2e-7, 0xDEAD FROM t1 WHERE a=-5", 'SELECT ?, ?, ?, ? FROM t1 WHERE a=-?'],
    ["SELECT E'a\\'secret', B'101', U&'sec'", 'SELECT ?, ?, ?'],
    ["SELECT 'C:\\' || 'secret'", 'SELECT ? || ?'],
    ['SELECT $$secret $1$$, $tag$ secret $$ $tag$, $1', 'SELECT ?, ?, $1'],
    ['SELECT /* secret /* nested */ secret */ 1', 'SELECT ?'],
    ['SELECT a -- secret\n\n\t FROM t', 'SELECT a FROM t'],
    ["SELECT 'unclosed secret", 'SELECT ?'],
    ['SELECT "col" FROM "t" WHERE x = ANY($1)', 'SELECT "col" FROM "t" WHERE x = ANY($1)'],
  ])('of %s is %s', (sql, text) => {
    expect(describeSql(sql, 'postgresql').text).toBe(text)
  })

  it.each([
    ['SELECT $🔒$ secret $🔒$, 1', 'SELECT ?, ?'],
    ['SELECT $e\u0301$ secret $e\u0301$, $\u00a0$ secret $\u00a0$', 'SELECT ?, ?'],
    ['SELECT 🔒$$ FROM b', 'SELECT 🔒$$ FROM b'],
    ['SELECT 1$$ secret $$, $1$$ secret $$', 'SELECT ??, $1?'],
    ["SELECT E'foo'\n'bar\\'baz secret'", 'SELECT ?'],
    ["SELECT E'foo'\r\n\t\n'bar\\'baz secret', 1", 'SELECT ?, ?'],
    ["SELECT E'foo' -- it's\n-- more of it's\n 'bar\\'baz secret'", 'SELECT ?'],
    ["SELECT E'foo' 'bar\\'", 'SELECT ? ?'],
    ["SELECT 'foo'\n'bar\\', E'it\\'s'", 'SELECT ?, ?'],
    ["SELECT x[1:E'it\\'s secret'], @E'it\\'s secret', 'a'::E'\\''", 'SELECT x[?:?], @?, ?::?'],
    ["SELECT @a$x$, 'secret'", 'SELECT @a$x$, ?'],
    ["SELECT a -- it's\r, 'secret'", 'SELECT a , ?'],
    ["SELECT 1 ` 'it` secret'", 'SELECT ? ` ?'],
  ])('of %s is %s, as the server of Postgres reads it', (sql, text) => {
    expect(describeSql(sql, 'postgresql').text).toBe(text)
  })

  it.each([
    [`SELECT 'a\\'secret', "b\\"secret", _utf8'x' # secret`, 'SELECT ?, ?, ?'],
    ["SELECT 5--'1\n secret'", 'SELECT ?--?'],
    ["SELECT 5--\u00a0'secret'", 'SELECT ?--\u00a0?'],
    [
      "SELECT 5 -- it's secret\n, 5--\tit's\n, 5--\u0001it's\n, 5--\u007fit's\n, 5 --",
      'SELECT ? , ? , ? , ? , ?',
    ],
    ["SELECT /*! STRAIGHT_JOIN */ /*!50000 'it\\'s' */ 'secret' FROM a", 'SELECT ? FROM a'],
    ["SELECT @'it\\'s secret', @`it's`", "SELECT @?, @`it's`"],
  ])('of %s is %s, as the server of MySQL reads it', (sql, text) => {
    expect(describeSql(sql, 'mysql').text).toBe(text)
  })

  it('ends where the server’s version decides what is a string', () => {
    for (const comment of [
      "/*! 'a */ secret' */",
      "/*!99999 it's */",
      '/*M!99999 /* */ secret */',
      '/*! # */\n"a" */',
    ]) {
      expect(describeSql(`SELECT 1, ${comment} secret FROM secret`, 'mysql')).toMatchObject({
        summary: 'SELECT',
        text: 'SELECT ?, ?',
      })
    }
  })

  it('leaves out the words for values where values are written into it', () => {
    const sql = "UPDATE a SET b = true, c = NULL, d = false, e = 'x' WHERE nullable IS NULL"
    expect(describeSql(sql, 'mysql', true).text).toBe(
      'UPDATE a SET b = ?, c = ?, d = ?, e = ? WHERE nullable IS ?',
    )
    expect(describeSql(sql, 'mysql').text).toBe(
      'UPDATE a SET b = true, c = NULL, d = false, e = ? WHERE nullable IS NULL',
    )
  })

  it.each([
    ['mysql2:query', 'UPDATE a SET b = ?, c = ?-?'],
    ['mysql2:execute', 'UPDATE a SET b = TRUE, c = ?-?'],
  ])('knows that %s tells it with its values, or without', async (channel, text) => {
    const message = { query: 'UPDATE a SET b = TRUE, c = 1-2', database: 'shop', serverAddress: 'db' }
    const [span] = await recorder.spansOf('request-1', () =>
      tracingChannel<unknown, object>(channel).tracePromise(async () => {}, message),
    )
    expect(span?.attributes['db.query.text']).toBe(text)
  })

  it('is remembered, also of a long statement, but not with the values written into it', () => {
    const sql = `SELECT ${'a, '.repeat(3000)} b FROM orders`
    expect(describeSql(`${sql} `, 'mysql')).toBe(describeSql(`${sql} `, 'mysql'))
    expect(describeSql('SELECT 2 FROM a', 'mysql', true)).not.toBe(
      describeSql('SELECT 2 FROM a', 'mysql', true),
    )
  })

  it('tells a statement that was cut from one that ends there', () => {
    const sql = `SELECT a FROM ${' '.repeat(8192 - 20)}orders`
    expect(sql.length).toBe(8192)
    expect(describeSql(sql, 'sqlite').text).toBe('SELECT a FROM orders')
    expect(describeSql(`${sql} b`, 'sqlite').text).toBe('SELECT a FROM orders…')
    expect(describeSql(sql, 'sqlite').text).toBe('SELECT a FROM orders')
  })

  it('forgets the oldest when it remembers too much', () => {
    const first = describeSql('SELECT first', 'sqlite')
    for (let index = 0; index < 200; index += 1) describeSql(`SELECT ${'a'.repeat(8000)}${index}`, 'sqlite')
    expect(describeSql('SELECT first', 'sqlite')).not.toBe(first)
    expect(describeSql('SELECT first', 'sqlite')).toEqual(first)
  })

  it('is cut, and read only so far, when a statement has five megabytes', () => {
    const values = Array.from({ length: 250_000 }, (_, index) => `(${index}, 'secret')`).join(',')
    const { text, summary } = describeSql(`INSERT INTO big VALUES ${values}`, 'postgresql')
    expect(summary).toBe('INSERT big')
    expect(text.length).toBeLessThanOrEqual(2001)
    expect(text.endsWith('…')).toBe(true)
    expect(text).not.toContain('secret')
  })

  it.each(DIALECTS)('never shows what stands in quotes, whatever is around it: %s', (dialect) => {
    const before = fc
      .array(fc.tuple(fc.constantFrom(...COMPLETE_TOKENS[dialect]), fc.constantFrom(...BETWEEN)), {
        maxLength: 8,
      })
      .map((pairs) => pairs.flat().join(''))
    const secret = fc.string({ unit: fc.constantFrom(...`xyz '\\"\`$-/*#;]\n🔒`), maxLength: 20 })
    const noise = fc.string({
      unit: fc.constantFrom(...`abc ($1);,.-/*#=?:@E\n\r\t0'"\`[]\\🔒`),
      maxLength: 30,
    })
    fc.assert(
      fc.property(
        before,
        fc.constantFrom(...LITERALS[dialect]),
        secret,
        fc.constantFrom('', ' ', ', '),
        noise,
        (head, quote, value, between, tail) => {
          const sql = `SELECT ${head}${quote(`SECRET${value}SECRET`)}${between}${tail}`
          expect(JSON.stringify(describeSql(sql, dialect))).not.toContain('SECRET')
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('is found for any text at all, and alike the second time', () => {
    const anyText = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc.string({ unit: fc.constantFrom(...'\'"`$-/*;() \n\\EFROMINTO'.split('')), maxLength: 200 }),
    )
    fc.assert(
      fc.property(fc.constantFrom(...DIALECTS), anyText, (dialect, sql) => {
        const first = describeSql(sql, dialect)
        expect(first.operation).toMatch(/^[A-Z_\u0080-\uFFFF][\w$\u0080-\uFFFF]*$/)
        expect(describeSql(sql, dialect)).toEqual(first)
      }),
    )
  })
})
