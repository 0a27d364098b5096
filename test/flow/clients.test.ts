/**
 * Every client in a real Next app that has only the packed tarball: bundled by Turbopack and by webpack, under
 * `next start`, `next dev` and as a standalone server. The ID reaches the database's own log, and each statement has
 * one span in its own request's tree.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { startMariadb } from '../support/mariadb.ts'
import { startNeonBridge } from '../support/neon-bridge.ts'
import { buildApp, type NextServer, type RecordedSpan, startApp } from '../support/next-server.ts'
import { installApp } from '../support/packed-package.ts'
import { startPostgres } from '../support/postgres.ts'
import { generatePrismaClient } from '../support/prisma.ts'
import { startRedis } from '../support/redis.ts'
import { startUpstashBridge } from '../support/upstash-bridge.ts'

const PACKAGES = [
  ...[
    'next',
    'react',
    'react-dom',
    '@opentelemetry/api',
    '@opentelemetry/sdk-node',
    '@prisma/instrumentation',
  ],
  ...['pg', 'pg-query-stream', 'postgres', '@neondatabase/serverless', 'mysql2'],
  ...[
    'drizzle-orm',
    'kysely',
    '@prisma/client',
    '@prisma/adapter-pg',
    '@electric-sql/pglite',
    'better-sqlite3',
  ],
  ...['ioredis', 'ioredis-5-0', 'redis', 'redis-4', '@upstash/redis', '@vercel/kv'],
  ...['undici@7', 'typescript@6', '@types/react', '@types/node'],
]

/** What a client shows of the statements it runs, by its name in the app. */
interface SqlExpectation {
  /** Whose log bears the ID. */
  log?: 'postgres' | 'mariadb'
  /** The span of the query that the library itself writes. */
  ordersSpan?: string
}

const SQL_CLIENTS: Record<string, SqlExpectation> = {
  pg: { log: 'postgres' },
  postgresJs: { log: 'postgres', ordersSpan: 'SELECT orders' },
  neonWebSocket: { log: 'postgres' },
  neonHttp: { log: 'postgres', ordersSpan: 'SELECT orders' },
  drizzleOnPg: { log: 'postgres', ordersSpan: 'SELECT orders' },
  drizzleOnPostgresJs: { log: 'postgres', ordersSpan: 'SELECT orders' },
  kysely: { log: 'postgres', ordersSpan: 'SELECT orders' },
  prisma: { log: 'postgres', ordersSpan: 'SELECT public.orders' },
  mysql2: { log: 'mariadb' },
  pglite: {},
  betterSqlite3: {},
}

/** mysql2 kept out of the bundle; in it, with the line; in it, with its channels alone, which tell no comment. */
const MYSQL2_SET_UPS = {
  start: {},
  dev: { BUNDLE_MYSQL2: '1', WRAP_MYSQL2: '1' },
  standalone: { BUNDLE_MYSQL2: '1' },
}

const KV_CLIENTS = ['ioredis6', 'ioredis5', 'redis6', 'redis4', 'upstash', 'vercelKv']

const [redis, postgres, mariadb] = await Promise.all([startRedis(), startPostgres(), startMariadb()])
const isComplete = redis !== undefined && postgres !== undefined && mariadb !== undefined
const [neon, upstash] = isComplete
  ? await Promise.all([startNeonBridge(postgres.url), startUpstashBridge(redis.url)])
  : []
const echo = createServer((request, response) => response.end(JSON.stringify(request.headers)))
await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve))

describe.skipIf(!isComplete)('a Next app with every client', () => {
  let app: string
  const env: NodeJS.ProcessEnv = {
    DATABASE_URL: postgres?.url,
    MYSQL_URL: mariadb?.url,
    REDIS_URL: redis?.url,
    NEON_BRIDGE: neon?.address,
    UPSTASH_URL: upstash?.url,
    UPSTASH_TOKEN: upstash?.token,
    ECHO_URL: `http://127.0.0.1:${(echo.address() as AddressInfo).port}`,
  }

  beforeAll(async () => {
    const client = new pg.Client({ connectionString: postgres?.url })
    await client.connect()
    await client.query('CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text)')
    await client.end()
    app = await installApp('clients-app', {
      tarball: inject('tarball'),
      workDirectory: inject('workDirectory'),
      packages: PACKAGES,
    })
    await generatePrismaClient(app)
  })
  afterAll(async () => {
    echo.close()
    await Promise.all([neon?.close(), upstash?.stop()])
    await Promise.all([redis?.stop(), postgres?.stop(), mariadb?.stop()])
  })

  describe.each(['turbopack', 'webpack'] as const)('bundled by %s', (bundler) => {
    describe.each(['start', 'dev', 'standalone'] as const)('under %s', (mode) => {
      let server: NextServer

      beforeAll(async () => {
        const own = {
          ...env,
          DIST_DIR: `.next-${bundler}-${mode}`,
          ...(mode === 'standalone' ? { STANDALONE: '1' } : {}),
          ...MYSQL2_SET_UPS[mode],
        }
        const flags =
          mode === 'standalone' ? [] : bundler === 'webpack' && mode === 'dev' ? ['--webpack'] : []
        if (mode !== 'dev') {
          const output = await buildApp(app, {
            env: own,
            flags: bundler === 'webpack' ? ['--webpack'] : [],
          })
          expect(output).not.toMatch(/could not resolve|can't resolve|module not found/i)
        }
        server = await startApp(app, mode, { env: own, flags, warmUpPath: '/' })
        // Compiles, in development, and connects the clients: the requests that count come after. The KV clients
        // come last: to compile another route loads them anew, and what ioredis queues meanwhile has no span.
        // A connection that is idle while a route is compiled may be closed as it is used again: then once more.
        const warmUp = (request: () => Promise<unknown>) => eventually(request, 60_000)
        await warmUp(async () => (await fetch(`${server.url}/api/http`)).text())
        for (const client of Object.keys(SQL_CLIENTS)) await warmUp(() => runSql(server, client, 'warm'))
        for (const client of KV_CLIENTS)
          await warmUp(() => placeOrder(server, client, `warm-${bundler}-${mode}-${client}`))
      })
      afterAll(() => server?.stop())

      it.each(Object.entries(SQL_CLIENTS))(
        'shows what %s runs, in its own request',
        async (client, expected) => {
          const marks = Array.from({ length: 6 }, (_, index) =>
            `m${bundler}${mode}${client}${index}x`.toLowerCase(),
          )
          const runs = await Promise.all(marks.map((mark) => runSql(server, client, mark)))
          for (const { id, mark, steps } of runs) {
            const spans = await eventually(async () => {
              const found = (await server.spans()).filter((span) => span.traceId === id)
              expect(statementsOf(found, mark)).toEqual(steps)
              return found
            })
            expect(treeFaultsOf(spans)).toEqual([])
            for (const span of spans) expect(span.attributes['correlation.id'], span.name).toBe(id)
            if (expected.ordersSpan !== undefined)
              expect(spans.map((span) => span.name)).toContain(expected.ordersSpan)
            if (expected.log === undefined || (client === 'mysql2' && mode === 'standalone')) continue
            const log = (expected.log === 'postgres' ? postgres : mariadb)?.log() ?? ''
            for (const step of steps) {
              const lines = log.split('\n').filter((line) => line.includes(`AS ${mark}_${step} `))
              expect(lines.length, `${mark}_${step}`).toBeGreaterThan(0)
              for (const line of lines) {
                expect(line).toContain(`correlation_id='${id}'`)
                expect(line.split('/*'), line).toHaveLength(2)
              }
              expect(lines[0]).toContain("route='%2Fapi%2Fsql'")
            }
          }
        },
      )

      it.each(KV_CLIENTS)('flags a key used again in the recipe on %s', async (client) => {
        const key = `${bundler}-${mode}-${client}`
        const first = await placeOrder(server, client, key)
        const second = await placeOrder(server, client, key)
        expect([first.repeated, second.repeated]).toEqual([false, true])
        const spans = await spansOf(server, second.id, ['GET'])
        const [get, request] = [spans.find(({ name }) => name === 'GET'), rootOf(spans)]
        for (const span of [get, request]) {
          expect(span?.attributes).toMatchObject({
            'idempotency.hit': true,
            'idempotency.outcome': 'replay',
            'idempotency.origin.trace_id': first.id,
          })
          expect(span?.links.map((link) => link.traceId)).toContain(first.id)
        }
        // A GET before the work, and one after the response.
        const firstSpans = await spansOf(server, first.id, ['GET', 'GET', 'SET', 'MULTI|PIPELINE'])
        expect(treeFaultsOf(firstSpans)).toEqual([])
        const batch = firstSpans.find(({ name }) => /^(MULTI|PIPELINE)$/.test(name))
        expect(Number(batch?.attributes['db.operation.batch.size'])).toBe(2)
        // The one before the work, and the one after the response.
        expect(firstSpans.filter(({ name }) => name === 'GET')).toHaveLength(2)
        expect(JSON.stringify([...spans, ...firstSpans])).not.toContain(key)
      })

      it.each(KV_CLIENTS)('flags the race of two that run the recipe on %s at once', async (client) => {
        const key = `race-${bundler}-${mode}-${client}`
        const both = await Promise.all([
          placeOrder(server, client, key, 300),
          placeOrder(server, client, key, 300),
        ])
        expect(both.map(({ repeated }) => repeated)).toEqual([false, false])
        for (const [index, { id }] of both.entries()) {
          const request = rootOf(await spansOf(server, id, ['SET']))
          expect(request?.attributes['idempotency.race']).toBe(true)
          expect(request?.links.map((link) => link.traceId)).toContain(both[1 - index]?.id)
        }
        const warnings = (await server.logs()).filter((line) => String(line.msg).includes('missed the same'))
        expect(warnings.some((line) => both.some(({ id }) => line.correlation_id === id))).toBe(true)
      })

      it('sends the ID with fetch and undici, and shows both without their queries', async () => {
        const response = await fetch(`${server.url}/api/http`)
        const id = response.headers.get('x-correlation-id') ?? ''
        const { fetched, requested } = await response.json()
        const spans = await spansOf(server, id, ['fetch GET', 'GET'])
        for (const [headers, name] of [
          [fetched, 'fetch GET'],
          [requested, 'GET'],
        ]) {
          const span = spans.find((candidate) => candidate.name.split(' http')[0] === name)
          expect(headers['x-correlation-id']).toBe(id)
          expect(headers.traceparent).toBe(`00-${id}-${span?.spanId}-01`)
        }
        expect(spans.filter((span) => /^(fetch )?GET( http|$)/.test(span.name))).toHaveLength(2)
        for (const { name, attributes } of spans) {
          expect(name).not.toContain('secret')
          for (const [attribute, value] of Object.entries(attributes))
            expect(String(value), attribute).not.toContain('secret')
        }
      })
    })
  })
})

async function runSql(server: NextServer, client: string, mark: string) {
  const response = await fetch(`${server.url}/api/sql?client=${client}&mark=${mark}`)
  if (response.status !== 200) throw new Error(`${client}: ${await response.text()}\n${server.output()}`)
  const { hasTransaction, streamed } = await response.json()
  if (streamed !== undefined) expect(streamed).toBe(1)
  const steps = [
    'after',
    ...['p1', 'p2', 'p3'],
    ...(streamed === undefined ? [] : ['s']),
    ...(hasTransaction ? ['t1', 't2'] : []),
  ]
  return { id: response.headers.get('x-correlation-id') ?? '', mark, steps }
}

async function placeOrder(server: NextServer, client: string, key: string, createMs = 0) {
  const body = JSON.stringify({ client, key, createMs })
  const response = await fetch(`${server.url}/api/kv`, { method: 'POST', body })
  if (response.status !== 200) throw new Error(`${client}: ${await response.text()}\n${server.output()}`)
  const { repeated } = await response.json()
  return { repeated, id: response.headers.get('x-correlation-id') ?? '' }
}

/** The steps whose statement has a span, each as often as it has one. */
function statementsOf(spans: RecordedSpan[], mark: string): string[] {
  return spans
    .flatMap((span) => {
      if (span.scope !== 'throughline') return []
      return [...String(span.attributes['db.query.text']).matchAll(new RegExp(`AS ${mark}_(\\w+)`, 'g'))]
    })
    .map(([, step]) => step ?? '')
    .sort()
}

/** Waits for spans of these names, or that begin with them, and for the request to be over. */
async function spansOf(server: NextServer, id: string, names: string[]): Promise<RecordedSpan[]> {
  return eventually(async () => {
    const found = (await server.spans()).filter((span) => span.traceId === id)
    for (const name of names) {
      const matching = found.filter((span) => new RegExp(`^(${name})\\b`).test(span.name))
      expect(matching.length, name).toBeGreaterThanOrEqual(names.filter((other) => other === name).length)
    }
    expect(rootOf(found)).toBeDefined()
    return found
  })
}

function rootOf(spans: RecordedSpan[]): RecordedSpan | undefined {
  return spans.find((span) => span.parentSpanId === '')
}

/** What keeps the spans from being one tree. */
function treeFaultsOf(spans: RecordedSpan[]): string[] {
  const ids = new Set(spans.map((span) => span.spanId))
  const roots = spans.filter((span) => span.parentSpanId === '')
  const orphans = spans.filter((span) => span.parentSpanId !== '' && !ids.has(span.parentSpanId))
  return [
    ...(roots.length === 1 ? [] : [`${roots.length} roots: ${roots.map(({ name }) => name).join()}`]),
    ...orphans.map(({ name }) => `no parent: ${name}`),
  ]
}
