/**
 * What every database client has to show, whichever it is: call `describeDatabaseClient` from the client's own test.
 */
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { recordSpans, type Span, written } from '../support/traced-requests.ts'

export type Rows = Record<string, unknown>[]

/** A connected client, as the tests use it. `?` stands for the placeholder of its database. */
export interface DatabaseClient {
  /** Runs a statement, and resolves to its rows as objects. */
  query(sql: string, values?: readonly unknown[]): Promise<Rows>
  /** Two statements in a transaction; rolls back and rejects when the second fails. See `hasTransactions`. */
  transaction?(first: string, second: string): Promise<unknown>
  close(): Promise<unknown>
}

export interface DatabaseSetUp {
  /** `db.system.name`. */
  system: 'postgresql' | 'mysql' | 'sqlite'
  /** Expected on each span, beside what the statement says. */
  target: Record<string, unknown>
  /** A client on the test's server, pools of at most two connections. */
  connect(): Promise<DatabaseClient>
  /** One whose server does not answer: nothing listens on that port. Absent where there is no server. */
  connectToNothing?(port: number): Promise<DatabaseClient>
  /** The server's own log; undefined where there is none. */
  log?: () => string | undefined
  /** Whether it has transactions that the app's code runs in. Default true. */
  hasTransactions?: boolean
  /** Whether the client sends a comment with what `query` runs. */
  isCommented: boolean
}

/** The spans of this test file. */
export const recorder = recordSpans()

export function describeDatabaseClient(name: string, setUp: DatabaseSetUp): void {
  describe(name, () => {
    let client: DatabaseClient
    beforeAll(async () => {
      client = await setUp.connect()
      await client.query('DROP TABLE IF EXISTS things')
      await client.query('CREATE TABLE things (id int PRIMARY KEY, name text)')
    })
    afterAll(() => client?.close())

    it('gives a statement a client span named by operation and table, under the request', async () => {
      const [span, ...others] = await recorder.spansOf('request-1', () =>
        client.query('SELECT name FROM things WHERE id = ?', [7]),
      )
      expect(others).toEqual([])
      expect(span?.name).toBe('SELECT things')
      expect(span?.kind).toBe(SpanKind.CLIENT)
      expect(span?.attributes).toEqual({
        'correlation.id': 'request-1',
        'db.system.name': setUp.system,
        'db.operation.name': 'SELECT',
        'db.collection.name': 'things',
        'db.query.summary': 'SELECT things',
        'db.query.text': expect.stringMatching(/^SELECT name FROM things WHERE id = (\?|\$1)$/),
        ...setUp.target,
      })
      expect(span?.status.code).toBe(SpanStatusCode.UNSET)
      const request = recorder.requestSpan()
      expect(span?.parentSpanContext?.spanId).toBe(request.spanContext().spanId)
      expect(durationMs(span)).toBeGreaterThan(0)
    })

    it('counts the call on the line of the request', async () => {
      await recorder.spansOf('request-2', async (request) => {
        await client.query('SELECT 1')
        await client.query('SELECT 2')
        expect(request.calls.database?.count).toBe(2)
        expect(request.calls.database?.durationMs).toBeGreaterThan(0)
      })
    })

    it('leaves a statement outside a request alone', async () => {
      recorder.taken()
      await client.query("SELECT 'outside a request'")
      expect(recorder.taken()).toEqual([])
      expect(/outside a request'.*correlation_id/.test(setUp.log?.() ?? '')).toBe(false)
    })

    it('names the failure of a statement by its code, and shows none of its values', async () => {
      await client.query('INSERT INTO things VALUES (1, ?)', ['first'])
      const [span] = await recorder.spansOf('request-3', () =>
        expect(client.query("INSERT INTO things VALUES (1, 'secret')")).rejects.toThrow(),
      )
      const code = { postgresql: '23505', mysql: 'ER_DUP_ENTRY', sqlite: expect.stringMatching(/SQLITE/) }
      expect(span?.attributes['error.type']).toEqual(code[setUp.system])
      expect(span?.status.code).toBe(SpanStatusCode.ERROR)
      expect(span === undefined ? '' : written(span)).not.toContain('secret')
    })

    it('shows no value that is bound, and none that is written into the statement', async () => {
      const spans = await recorder.spansOf('request-4', async () => {
        await client.query('SELECT ? AS name', ['secret'])
        await client.query("SELECT 'secret' AS name")
      })
      expect(spans).toHaveLength(2)
      for (const span of spans) expect(written(span)).not.toContain('secret')
    })

    it('keeps requests apart that wait for the same two connections', async () => {
      const requests = Array.from({ length: 30 }, (_, index) => index)
      recorder.taken()
      await Promise.all(
        requests.map((index) =>
          recorder.inRequest(`parallel-${index}`, () =>
            Promise.all([client.query(`SELECT 1 AS n${index}`), client.query(`SELECT 2 AS n${index}`)]),
          ),
        ),
      )
      const spans = recorder.taken()
      const statements = spans.filter((span) => span.name !== 'request')
      expect(statements).toHaveLength(60)
      for (const { attributes, parentSpanContext } of statements) {
        const id = String(attributes['correlation.id'])
        expect(attributes['db.query.text']).toBe(`SELECT ? AS n${id.replace('parallel-', '')}`)
        const request = spans.find(
          (span) => span.name === 'request' && span.attributes['correlation.id'] === id,
        )
        expect(parentSpanContext?.spanId).toBe(request?.spanContext().spanId)
      }
      const arrived = (setUp.log?.() ?? '').matchAll(/AS n(\d+) \/\*correlation_id='parallel-(\d+)'/g)
      const pairs = [...arrived]
      for (const [, index, id] of pairs) expect(index).toBe(id)
      if (setUp.isCommented && setUp.log?.() !== undefined) expect(pairs.length).toBeGreaterThanOrEqual(60)
    })

    const { hasTransactions = true, connectToNothing } = setUp
    const itInTransactions = hasTransactions ? it : undefined
    itInTransactions?.('covers a transaction, which still rolls back', async () => {
      const spans = await recorder.spansOf('request-5', () =>
        expect(
          client.transaction?.(
            "INSERT INTO things VALUES (2, 'two')",
            "INSERT INTO things VALUES (2, 'again')",
          ),
        ).rejects.toThrow(),
      )
      const request = recorder.requestSpan().spanContext().spanId
      const inserts = spans.filter((span) => span.name === 'INSERT things')
      expect(inserts.map((span) => span.parentSpanContext?.spanId)).toEqual([request, request])
      expect(await client.query('SELECT * FROM things WHERE id = 2')).toEqual([])
    })

    const itWithServer = connectToNothing === undefined ? undefined : it
    itWithServer?.('says where it could not connect, and why', async () => {
      const port = await freePort()
      const spans = await recorder.spansOf('request-6', async () => {
        const lost = await connectToNothing?.(port)
        await expect(lost?.query('SELECT 1')).rejects.toThrow()
        await lost?.close().catch(() => {})
      })
      const failed = spans.filter((span) => span.status.code === SpanStatusCode.ERROR)
      expect(failed.map((span) => span.attributes['error.type'])).toEqual(['ECONNREFUSED'])
      expect(failed[0]?.attributes).toMatchObject({
        'correlation.id': 'request-6',
        'db.system.name': setUp.system,
      })
    })

    it.each([
      ['that ends a comment', "x*/; DROP TABLE things; --'"],
      ['with quotes, newlines and NUL', `"'\`\\\n\r\0%`],
      ['of ten kilobytes', 'a'.repeat(10_240)],
    ])('lets an ID %s do nothing', async (_title, id) => {
      const spans = await recorder.spansOf(id, async () => {
        expect(await client.query('SELECT name FROM things WHERE id = ?', [1])).toEqual([{ name: 'first' }])
      })
      expect(spans).toHaveLength(1)
      expect((setUp.log?.() ?? '').includes('x*/')).toBe(false)
      expect(await client.query('SELECT id FROM things')).toEqual([{ id: 1 }])
    })

    it('takes a statement of five megabytes as it is, and shows its beginning', async () => {
      const long = 'x'.repeat(5 * 1024 * 1024)
      const spans = await recorder.spansOf('request-7', async () => {
        const [row] = await client.query(`SELECT length('${long}') AS n FROM things`)
        expect(Number(row?.n)).toBe(long.length)
      })
      expect(String(spans[0]?.attributes['db.query.text']).length).toBeLessThan(2100)
      expect(spans[0]?.name).toMatch(/^SELECT/)
    })

    it('takes binary values as they are', async () => {
      const bytes = Buffer.from([0, 255, 39, 42, 47, 92, 10])
      const sql = setUp.system === 'postgresql' ? 'SELECT ?::bytea AS bytes' : 'SELECT ? AS bytes'
      await recorder.spansOf('request-8', async () => {
        const [row] = await client.query(sql, [bytes])
        expect(Buffer.from(row?.bytes as Uint8Array)).toEqual(bytes)
      })
    })

    if (setUp.log !== undefined) {
      it(`${setUp.isCommented ? 'puts' : 'leaves out'} the ID in the server's own log`, async () => {
        const [span] = await recorder.spansOf('request-9', async (request) => {
          request.action = { name: 'createOrder' }
          request.route = '/orders/[id]'
          await client.query('SELECT name AS logged FROM things')
        })
        const { traceId, spanId } = span?.spanContext() ?? {}
        const comment =
          "/*action='createOrder',correlation_id='request-9',route='%2Forders%2F%5Bid%5D'," +
          `traceparent='00-${traceId}-${spanId}-01'*/`
        const log = setUp.log?.() ?? ''
        const lines = log.split('\n').filter((line) => line.includes('SELECT name AS logged FROM things'))
        expect(lines.length).toBeGreaterThan(0)
        const commented = lines.filter((line) => line.includes(`FROM things ${comment}`))
        expect(commented.length > 0, lines.join('\n')).toBe(setUp.isCommented)
      })
    }
  })
}

function durationMs(span: Span | undefined): number {
  return span === undefined ? 0 : span.duration[0] * 1000 + span.duration[1] / 1e6
}
