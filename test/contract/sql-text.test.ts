import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { describeSql, type SqlDialect } from '../../src/clients/database/sql-text.ts'

const DIALECTS = ['postgresql', 'mysql', 'sqlite'] as const

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

  it('leaves out the strings of MySQL, with their backslashes', () => {
    expect(describeSql(`SELECT 'a\\'secret', "b\\"secret", _utf8'x' # secret`, 'mysql').text).toBe(
      'SELECT ?, ?, ?',
    )
  })

  it('is cut, and read only so far, when a statement has five megabytes', () => {
    const values = Array.from({ length: 250_000 }, (_, index) => `(${index}, 'secret')`).join(',')
    const { text, summary } = describeSql(`INSERT INTO big VALUES ${values}`, 'postgresql')
    expect(summary).toBe('INSERT big')
    expect(text.length).toBeLessThanOrEqual(2001)
    expect(text.endsWith('…')).toBe(true)
    expect(text).not.toContain('secret')
  })

  it('never shows what stands in quotes, whatever is around it', () => {
    const noise = fc.string({
      unit: fc.constantFrom(...`abc ($1);,.-/*#=?:@E\n\t0"\`$`.split('')),
      maxLength: 30,
    })
    const secret = fc.string({ unit: fc.constantFrom(...`xyz '\\"\`$-/*`.split('')), maxLength: 20 })
    fc.assert(
      fc.property(
        fc.constantFrom<SqlDialect[]>('postgresql', 'sqlite'),
        secret,
        noise,
        (dialect, value, tail) => {
          const literal = `'SECRET${value.replaceAll("'", "''")}SECRET'`
          const { text, summary } = describeSql(`SELECT ${literal}, ${tail}`, dialect)
          expect(text + summary).not.toContain('SECRET')
        },
      ),
    )
    fc.assert(
      fc.property(secret, noise, (value, tail) => {
        const literal = `'SECRET${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}SECRET'`
        const { text, summary } = describeSql(`SELECT ${literal}, ${tail}`, 'mysql')
        expect(text + summary).not.toContain('SECRET')
      }),
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
        expect(first.operation).toMatch(/^[\p{Lu}\p{L}_][\p{L}\p{N}_$]*$/u)
        expect(describeSql(sql, dialect)).toEqual(first)
      }),
    )
  })
})
