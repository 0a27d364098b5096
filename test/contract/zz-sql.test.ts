import Database from 'better-sqlite3'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { it } from 'vitest'
import { startMariadb } from '../support/mariadb.ts'
import { startPostgres } from '../support/postgres.ts'

it('x', async () => {
  const p = await startPostgres()
  const m = await startMariadb()
  if (p) {
    const c = new pg.Client({ connectionString: p.url })
    await c.connect()
    for (const s of [
      'SHOW server_version',
      'SELECT $🔒$ secret $🔒$',
      'SELECT $e\u0301$ secret $e\u0301$',
      'SELECT $\u00a0$ secret $\u00a0$',
      'SELECT $\u2028$ secret $\u2028$',
      "SELECT E'foo'\n'bar\\'baz secret'",
      "SELECT E'foo' -- it's\n-- more 'x\n 'bar\\'baz secret'",
      "SELECT E'foo'\r'bar\\'baz secret'",
      "SELECT E'foo'/* x */\n'bar\\'baz secret'",
      "SELECT N'foo'\n'bar\\' ",
      "SELECT U&'foo'\n'bar''s \\0041 '",
      "SELECT X'1F'\n'2A'",
      "SELECT 'a' \\\n'b'",
      "SELECT 1 --'\r , 2",
      "SELECT 1 ` 'it` secret'",
      'SELECT 1a$$',
      'SELECT 1$$ x',
      'SELECT 1$$x$$',
      "SELECT 1E'it\\'s'",
      "SELECT ('{1,2}'::int[])[1:E'2\\'s']",
      "SELECT @E'it\\'s'",
      'SELECT a\u00a0$$ FROM (SELECT 1) x(a\u00a0$$)',
      "SELECT '1'\v'2'",
      'SELECT $a$x$b$a$',
      'SELECT 1 AS \u{1F512}',
      'SELECT 1_000, 0x1F, 0b11, 0o17',
      "SELECT $1E'it\\'s'",
      'SELECT $1$$x$$',
      'SELECT U&"d\\0061t" FROM (SELECT 1 dat) y',
    ]) {
      try {
        const r = await c.query({ text: s, rowMode: 'array', ...(s.includes('$1') ? { values: ['v'] } : {}) })
        console.log('PG', JSON.stringify(s), JSON.stringify(r.rows), r.fields?.map((f) => f.name).join())
      } catch (e) {
        console.log('PG', JSON.stringify(s), 'ERR', (e as Error).message)
      }
    }
    await c.end()
    await p.stop()
  }
  if (m) {
    const c = await mysql.createConnection({ uri: m.url })
    for (const s of [
      'SELECT version()',
      "SELECT 5--'1\n secret'",
      "SELECT 5--\t'1\n secret'",
      "SELECT 5--\x01'x\n ",
      "SELECT 5--\x7f 'x\n",
      'SELECT 5--',
      "SELECT 5--\u00a0'x'",
      "SELECT 1 -- it's\r, 2",
      "SELECT /*! 'a */ secret' */",
      "SELECT 1 /*!99999 , 'a */ , 'b' ",
      'SELECT 1 /*!99999 , /* x */ , 2 */',
      "SELECT /*M! 'a */ secret' */",
      'SELECT 1 /* a /* b */ , 2',
      'SELECT /*! 1 /* , */ + 2 */ + 3',
      'SELECT /*! 1 -- */\n + 2 */',
      'SELECT /*! 1 # */\n + 2 */',
      "SELECT 1 # it's\0 , 2",
      "SELECT @'it\\'s x'",
      "SELECT \"a\\\"b\", 'a\\'b', 'a' 'b', N'a\\'b', _utf8'a\\'b', x'41', `1a` FROM (SELECT 1 `1a`) t",
      "SELECT _utf8mb4 'it\\'s'",
      'SELECT _utf8mb4"x"',
      'SELECT 1 AS a\u00a0b',
      'SELECT N"it\\"s"',
      'SELECT X"41"',
      "SELECT /*+ SET_VAR(sql_mode='*/ secret') */ 1",
      "SELECT 1.e'x'",
      "SELECT /*!'*/",
      "SELECT 1 --\0it's\n, 2",
      'SELECT /**/ 2',
      'SELECT /*/ 2 */ 3',
      'SELECT 1/*!*/, 2',
      'SELECT /*!50000 1, */ 2',
      "SELECT /*! 'a' */",
      'SELECT @`it\'s` , @"it\'s"',
      'SELECT $a FROM (SELECT 1 $a) t',
    ]) {
      try {
        const [r] = await c.query({ sql: s, rowsAsArray: true })
        console.log('MY', JSON.stringify(s), JSON.stringify(r))
      } catch (e) {
        console.log('MY', JSON.stringify(s), 'ERR', (e as Error).message)
      }
    }
    await c.end()
    await m.stop()
  }
  const d = new Database(':memory:')
  for (const s of [
    "SELECT 1 AS [it's]",
    "SELECT $a(it's), 'secret'",
    "SELECT :a(it's)",
    "SELECT @a::b(it's)",
    'SELECT #a',
    'SELECT "x"',
    "SELECT 1 -- it's\r, 2\n",
    'SELECT 1 AS [a]]',
    'SELECT 1 /* /* */, 2',
    "SELECT 1 AS `it's`",
    'SELECT 1 AS a\u00a0b',
    '\uFEFFSELECT 1',
    'SELECT 1 AS [a"b]',
    "SELECT 1 AS 'it''s'",
    "SELECT x'41', 1_000, 0x1F",
    'SELECT 1 /*',
  ]) {
    try {
      const st = d.prepare(s)
      console.log(
        'LITE',
        JSON.stringify(s),
        st
          .columns()
          .map((x) => x.name)
          .join('|'),
      )
    } catch (e) {
      console.log('LITE', JSON.stringify(s), 'ERR', (e as Error).message)
    }
  }
}, 60000)
