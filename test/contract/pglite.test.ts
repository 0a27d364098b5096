import { PGlite } from '@electric-sql/pglite'
import { context, trace } from '@opentelemetry/api'
import { tracing } from '@opentelemetry/sdk-node'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { instrumentPglite } from '../../src/clients/database/pglite.ts'
import { runWithCorrelation } from '../../src/context/index.ts'
import { tryGetContext } from '../../src/context/request-context.ts'

const exporter = new tracing.InMemorySpanExporter()
const provider = new tracing.BasicTracerProvider({
  spanProcessors: [new tracing.SimpleSpanProcessor(exporter)],
})

describe('instrumentPglite', () => {
  const sent: string[] = []
  const plain = new PGlite()
  const plainQuery = plain.query.bind(plain)
  // What reaches the database, beneath the wrapper.
  plain.query = ((text: string, ...rest: []) => {
    sent.push(text)
    return plainQuery(text, ...rest)
  }) as typeof plain.query
  const db = instrumentPglite(plain)

  beforeAll(async () => {
    trace.setGlobalTracerProvider(provider)
    await db.exec('CREATE TABLE item (id int PRIMARY KEY, name text)')
  })
  beforeEach(() => {
    exporter.reset()
    sent.length = 0
  })
  afterAll(async () => {
    trace.disable()
    context.disable()
    await db.close()
  })

  it('gives each query of a request a span in the shape of the stable database conventions', async () => {
    const { rows } = await runWithCorrelation('request-1', () => db.query('SELECT $1::text AS name', ['ann']))
    expect(rows).toEqual([{ name: 'ann' }])
    const [span] = exporter.getFinishedSpans()
    expect(span?.name).toBe('SELECT postgres')
    expect(span?.attributes).toMatchObject({
      'db.system.name': 'postgresql',
      'db.operation.name': 'SELECT',
      'db.namespace': 'postgres',
      'db.query.text': 'SELECT $1::text AS name',
    })
    expect(JSON.stringify(span?.attributes)).not.toContain('ann')
  })

  it('appends the ID and the traceparent of the statement as a comment', async () => {
    await runWithCorrelation('request-2', () => db.query('SELECT 1'))
    const [span] = exporter.getFinishedSpans()
    const { traceId, spanId } = span?.spanContext() ?? {}
    expect(sent).toEqual([`SELECT 1 /*correlation_id='request-2',traceparent='00-${traceId}-${spanId}-01'*/`])
  })

  it('covers the queries of a transaction, which still rolls back', async () => {
    const failed = runWithCorrelation('request-3', () =>
      db.transaction(async (tx) => {
        await tx.query("INSERT INTO item VALUES (1, 'lamp')")
        throw new Error('changed my mind')
      }),
    )
    await expect(failed).rejects.toThrow('changed my mind')
    expect(exporter.getFinishedSpans().map((span) => span.name)).toEqual(['INSERT item'])
    expect((await db.query('SELECT * FROM item')).rows).toEqual([])
  })

  it('marks the span of a refused statement with the SQLSTATE alone, and rethrows', async () => {
    await db.query("INSERT INTO item VALUES (2, 'chair')")
    const failed = runWithCorrelation('request-4', () => db.query("INSERT INTO item VALUES (2, 'secret')"))
    await expect(failed).rejects.toThrow(/duplicate key/)
    const [span] = exporter.getFinishedSpans()
    expect(span?.attributes['error.type']).toBe('23505')
    expect(JSON.stringify([span?.status, span?.events])).not.toContain('secret')
  })

  it('tallies the calls of the request, and leaves a query outside a request alone', async () => {
    const calls = await runWithCorrelation('request-5', async () => {
      await db.query('SELECT 1')
      await db.query('SELECT 2')
      return tryGetContext()?.calls
    })
    expect(calls?.database?.count).toBe(2)
    exporter.reset()
    sent.length = 0
    await db.query('SELECT 3')
    expect(exporter.getFinishedSpans()).toEqual([])
    expect(sent).toEqual(['SELECT 3'])
  })
})
