/**
 * An app that has only the packed tarball and the two-line `instrumentation.ts`: bundled ioredis and redis,
 * pg, one hand-written recipe, no wrappers. One ID from the response header to the row.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import {
  buildApp,
  type LogLine,
  type NextServer,
  type RecordedSpan,
  startApp,
} from '../support/next-server.ts'
import { installApp } from '../support/packed-package.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { startRedis } from '../support/redis.ts'

const PACKAGES = [
  'next',
  'react',
  'react-dom',
  'ioredis',
  'redis',
  'pg',
  '@opentelemetry/api',
  '@opentelemetry/sdk-node',
]
const BUILD = ['typescript@6', '@types/react', '@types/node']

const [redis, postgres] = await Promise.all([startRedis(), startPostgres()])

describe.skipIf(redis === undefined || postgres === undefined)('a Next app with the two-line set-up', () => {
  let app: string
  let env: NodeJS.ProcessEnv

  beforeAll(async () => {
    env = { DATABASE_URL: postgres?.url, REDIS_URL: redis?.url }
    const client = new pg.Client({ connectionString: postgres?.url })
    await client.connect()
    await client.query('CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text)')
    await client.end()
    app = await installApp('plain-app', {
      tarball: inject('tarball'),
      workDirectory: inject('workDirectory'),
      packages: [...PACKAGES, ...BUILD],
    })
  })
  afterAll(async () => {
    await redis?.stop()
    await postgres?.stop()
  })

  describe.each(['start', 'dev'] as const)('next %s', (mode) => {
    let server: NextServer

    beforeAll(async () => {
      if (mode === 'start') {
        const output = await buildApp(app, { env })
        expect(output).not.toMatch(/warn|could not resolve|can't resolve/i)
      }
      server = await startApp(app, mode, { env, warmUpPath: '/api/bare' })
      // Connects the clients and, in development, compiles: the requests that count come after.
      await order(server, { key: `warm-${mode}`, client: 'ioredis' })
      await order(server, { key: `warm-${mode}`, client: 'node-redis' })
    })
    afterAll(() => server?.stop())

    it('answers with an ID that is the trace ID, and puts it on every span, statement and log line', async () => {
      const answer = await order(server, { key: `first-${mode}` })
      const id = answer.correlationId
      expect(id).toMatch(/^[0-9a-f]{32}$/)
      const { spans, logs } = await recorded(server, id, ['GET', 'SET', 'POST /api/order'])
      for (const span of spans) {
        expect(span.traceId).toBe(id)
        expect(span.attributes['correlation.id'], span.name).toBe(id)
      }
      expect(scopes(spans)).toEqual(new Set(['next.js', 'throughline']))
      expect(orphansOf(spans)).toEqual([])
      expect(logs.map((line) => line.msg)).toEqual(['order requested', 'request completed'])
      const statements = statementsOf(postgres).filter((line) => line.includes(id))
      expect(statements).toHaveLength(1)
      expect(statements[0]).toMatch(
        new RegExp(
          `INSERT INTO orders .*/\\*correlation_id='${id}',route='%2Fapi%2Forder',traceparent='00-${id}-[0-9a-f]{16}-01'\\*/`,
        ),
      )
    })

    it('sums the calls of a request on its last line', async () => {
      const { correlationId } = await order(server, { key: `sums-${mode}` })
      const line = await completedLine(server, correlationId)
      expect(line).toMatchObject({
        route: '/api/order',
        method: 'POST',
        path: '/api/order',
        status: 200,
        database_calls: 1,
        kv_calls: 2,
      })
    })

    it('reaches a self-call by fetch, and after()', async () => {
      const response = await fetch(`${server.url}/api/self`)
      const id = response.headers.get('x-correlation-id') ?? ''
      const inner = await response.json()
      expect(inner).toMatchObject({ correlationId: id, header: id })
      expect(inner.traceparent).toMatch(new RegExp(`^00-${id}-`))
      const { spans, logs } = await recorded(server, id, [
        'GET /api/self',
        'GET /api/echo',
        'SELECT postgres',
      ])
      expect(orphansOf(spans)).toEqual([])
      await eventually(async () => {
        const lines = (await server.logs()).filter((line) => line.correlation_id === id)
        expect(lines.map((line) => line.msg)).toContain('after the response')
      })
      expect(logs.every((line) => line.trace_id === id)).toBe(true)
      expect(
        statementsOf(postgres).some((line) => line.includes(`after_response /*correlation_id='${id}'`)),
      ).toBe(true)
    })

    it.each(['ioredis', 'node-redis'])('flags the second use of a key in a recipe on %s', async (client) => {
      const key = `twice-${mode}-${client}`
      const first = await order(server, { key, client })
      const second = await order(server, { key, client })
      expect([first.repeated, second.repeated]).toEqual([false, true])
      const { spans } = await recorded(server, second.correlationId, ['GET', 'POST /api/order'])
      for (const name of ['GET', 'POST /api/order']) {
        const span = spanNamed(spans, name)
        expect(span.attributes, name).toMatchObject({
          'idempotency.hit': true,
          'idempotency.outcome': 'replay',
          'idempotency.origin.trace_id': first.correlationId,
          'idempotency.origin.correlation_id': first.correlationId,
        })
        expect(Number(span.attributes['idempotency.hits'])).toBe(1)
        expect(span.events).toContain('idempotency.hit')
        expect(span.links[0]?.traceId).toBe(first.correlationId)
      }
      const line = await completedLine(server, second.correlationId)
      expect(line.idempotency).toMatchObject({ hit: true, hits: 1, outcome: 'replay' })
      const firstSpans = await recorded(server, first.correlationId, ['GET', 'SET'])
      expect(firstSpans.spans.some((span) => span.attributes['idempotency.hit'] === true)).toBe(false)
    })

    it('never lets a raw key reach telemetry', async () => {
      const key = `secret-key-${mode}`
      const { correlationId } = await order(server, { key })
      await order(server, { key })
      await recorded(server, correlationId, ['GET', 'SET'])
      expect(JSON.stringify([await server.spans(), await server.logs()])).not.toContain(key)
    })

    it('names a Server Action by its export and file, without a wrapper, and rethrows its redirect', async () => {
      await (await fetch(`${server.url}/`)).text()
      const response = await postAction(server, await actionId(app, mode, 'placeOrder'), {
        item: 'tea',
        key: `action-${mode}`,
      })
      expect(response.headers.get('x-action-redirect')).toMatch(/^\/proxied/)
      const id = response.headers.get('x-correlation-id') ?? ''
      const { spans } = await recorded(server, id, ['POST /', 'GET', 'SET', 'INSERT orders'])
      expect(spanNamed(spans, 'POST /').attributes).toMatchObject({
        'next.server_action.name': 'placeOrder',
        'next.server_action.file': 'app/actions.ts',
      })
      expect(await completedLine(server, id, '/')).toMatchObject({ action: 'placeOrder', route: '/' })
    })

    it('makes a proxied request one tree under a span that names its route', async () => {
      const response = await fetch(`${server.url}/proxied`, { headers: { 'x-test-header': 'kept' } })
      expect(await response.text()).toContain('kept')
      const id = response.headers.get('x-correlation-id') ?? ''
      const { spans } = await recorded(server, id, ['middleware GET', 'GET /proxied', 'SELECT orders'])
      const roots = spans.filter((span) => span.parentSpanId === '')
      expect(roots.map((span) => span.name)).toEqual(['GET /proxied'])
      expect(orphansOf(spans)).toEqual([])
    })

    it("keeps Next's fetch cache: the headers are not part of its key", async () => {
      const read = async () => (await fetch(`${server.url}/api/cached`)).json()
      const [first, second] = [await read(), await read()]
      expect(second).toEqual(first)
    })

    it("gives Next's own assets neither header nor line", async () => {
      const page = await (await fetch(`${server.url}/`)).text()
      const [asset] = /\/_next\/static\/[^"\\]+\.js/.exec(page) ?? []
      expect(asset).toBeDefined()
      const response = await fetch(server.url + asset)
      expect(response.status).toBe(200)
      expect(response.headers.get('x-correlation-id')).toBeNull()
      expect((await server.logs()).some((line) => String(line.path).startsWith('/_next/static'))).toBe(false)
    })

    it.each([
      ['of other characters', { 'x-correlation-id': "x'; DROP TABLE--" }],
      ['that is too long', { 'x-correlation-id': 'a'.repeat(129) }],
      [
        'sent twice',
        [
          ['x-correlation-id', 'one'],
          ['x-correlation-id', 'two'],
        ] as [string, string][],
      ],
      ['that is empty', { 'x-correlation-id': '' }],
    ])('ignores a correlation header %s and takes a fresh ID', async (_title, headers) => {
      const response = await fetch(`${server.url}/api/echo`, { headers })
      const body = await response.json()
      expect(body.correlationId).toMatch(/^[0-9a-f]{32}$/)
      expect(response.headers.get('x-correlation-id')).toBe(body.correlationId)
    })

    it('takes a valid correlation header, and the trace ID of a valid traceparent', async () => {
      const traceId = '0af7651916cd43dd8448eb211c80319c'
      const chosen = await fetch(`${server.url}/api/echo`, { headers: { 'x-correlation-id': 'order:42/A' } })
      expect(chosen.headers.get('x-correlation-id')).toBe('order:42/A')
      const joined = await fetch(`${server.url}/api/echo`, {
        headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` },
      })
      expect(joined.headers.get('x-correlation-id')).toBe(traceId)
      const malformed = await fetch(`${server.url}/api/echo`, {
        headers: { traceparent: `00-${traceId}-zz-01` },
      })
      expect(malformed.headers.get('x-correlation-id')).toMatch(/^(?!0af76519)[0-9a-f]{32}$/)
    })

    it('mixes up nothing among two hundred requests at once', async () => {
      const tags = Array.from({ length: 200 }, (_, index) => `burst-${mode}-${index}`)
      const answers = await Promise.all(
        tags.map(async (tag) => {
          const response = await fetch(`${server.url}/api/burst?tag=${tag}`)
          const body = await response.json()
          expect(body.correlationId).toBe(response.headers.get('x-correlation-id'))
          return { tag, id: body.correlationId as string }
        }),
      )
      expect(new Set(answers.map(({ id }) => id)).size).toBe(200)
      const idOf = new Map(answers.map(({ tag, id }) => [tag, id]))
      const ids = new Set(idOf.values())
      const spans = await eventually(async () => {
        const found = (await server.spans()).filter((span) => ids.has(span.traceId))
        expect(found.filter((span) => span.parentSpanId === '')).toHaveLength(200)
        return found
      }, 20_000)
      for (const span of spans) expect(span.attributes['correlation.id'], span.name).toBe(span.traceId)
      for (const id of ids) {
        const own = spans.filter((span) => span.traceId === id)
        expect(own.filter((span) => /^(SELECT|INSERT)/.test(span.name))).toHaveLength(2)
        expect(own.filter((span) => ['GET', 'SET'].includes(span.name))).toHaveLength(2)
        expect(orphansOf(own)).toEqual([])
      }
      const logs = (await server.logs()).filter((line) => line.msg === 'burst')
      expect(logs).toHaveLength(200)
      for (const line of logs) expect(line.correlation_id).toBe(idOf.get(String(line.tag)))
      // Postgres logs a statement and, on the next line, the parameter it came with: the request's own tag.
      const postgresLog = (postgres?.log() ?? '').split('\n')
      let statements = 0
      for (const [index, line] of postgresLog.entries()) {
        const id = /correlation_id='([0-9a-f]{32})'/.exec(line)?.[1]
        if (id === undefined || !ids.has(id)) continue
        statements += 1
        const tag = /parameters: \$1 = '([^']+)'/.exec(postgresLog[index + 1] ?? '')?.[1]
        expect(idOf.get(tag ?? '')).toBe(id)
      }
      if (postgres?.log() !== undefined) expect(statements).toBe(400)
    })
  })
})

async function order(server: NextServer, body: { key: string; client?: string }) {
  const response = await fetch(`${server.url}/api/order`, {
    method: 'POST',
    body: JSON.stringify({ item: 'tea', ...body }),
  })
  expect(response.status).toBe(200)
  const answer = (await response.json()) as { repeated: boolean; id: string }
  return { ...answer, correlationId: response.headers.get('x-correlation-id') ?? '' }
}

/** Waits until the trace has spans of these names and the request's last line is written. */
async function recorded(
  server: NextServer,
  traceId: string,
  names: string[],
): Promise<{ spans: RecordedSpan[]; logs: LogLine[] }> {
  return eventually(async () => {
    const spans = (await server.spans()).filter((span) => span.traceId === traceId)
    expect(spans.map((span) => span.name)).toEqual(expect.arrayContaining(names))
    const logs = (await server.logs()).filter((line) => line.correlation_id === traceId)
    expect(logs.map((line) => line.msg)).toContain('request completed')
    return { spans, logs }
  })
}

async function completedLine(server: NextServer, id: string, path = '/api/order'): Promise<LogLine> {
  return eventually(async () => {
    const line = (await server.logs()).find(
      (entry) => entry.correlation_id === id && entry.msg === 'request completed' && entry.path === path,
    )
    if (line === undefined) throw new Error(`no completed line for ${id}`)
    return line
  })
}

function spanNamed(spans: RecordedSpan[], name: string): RecordedSpan {
  const span = spans.find((candidate) => candidate.name === name)
  if (span === undefined)
    throw new Error(`no span ${name} among ${spans.map((each) => each.name).join(', ')}`)
  return span
}

function scopes(spans: RecordedSpan[]): Set<string> {
  return new Set(spans.map((span) => span.scope))
}

function orphansOf(spans: RecordedSpan[]): string[] {
  const ids = new Set(spans.map((span) => span.spanId))
  return spans
    .filter((span) => span.parentSpanId !== '' && !ids.has(span.parentSpanId))
    .map((span) => span.name)
}

function statementsOf(postgres: PostgresServer | undefined): string[] {
  return (postgres?.log() ?? '').split('\n').filter((line) => line.includes('correlation_id='))
}

/** The ID under which Next's client calls an action. */
async function actionId(app: string, mode: 'start' | 'dev', exportedName: string): Promise<string> {
  const directory = join(app, mode === 'dev' ? '.next/dev' : '.next', 'server/app')
  for (const name of await readdir(directory, { recursive: true })) {
    if (!name.endsWith('server-reference-manifest.json')) continue
    const { node } = JSON.parse(await readFile(join(directory, name), 'utf8'))
    for (const [id, entry] of Object.entries(node as Record<string, { exportedName?: string }>)) {
      if (entry.exportedName === exportedName) return id
    }
  }
  throw new Error(`no action ${exportedName} in ${directory}`)
}

/** Calls an action as Next's client does: the arguments as multipart, the ID in a header. */
function postAction(server: NextServer, id: string, fields: Record<string, string>): Promise<Response> {
  const body = new FormData()
  for (const [name, value] of Object.entries(fields)) body.append(`_1_${name}`, value)
  body.append('0', '["$K1"]')
  return fetch(`${server.url}/`, {
    method: 'POST',
    headers: { 'next-action': id, accept: 'text/x-component' },
    body,
  })
}
