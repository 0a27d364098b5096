import { fileURLToPath } from 'node:url'
import { PrismaPg } from '@prisma/adapter-pg'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { startPrismaInstrumentation } from '../../instrumentation/prisma.ts'
import { requestComments } from '../../src/clients/database/prisma.ts'
import { setClientSettings } from '../../src/clients/settings.ts'
import { startPostgres } from '../support/postgres.ts'
import { generatePrismaClient } from '../support/prisma.ts'
import { recordSpans } from '../support/traced-requests.ts'

const server = await startPostgres()
const recorder = recordSpans()
await startPrismaInstrumentation()

/** The generated client is not there when types are checked. */
interface PrismaLike {
  $queryRawUnsafe(text: string): Promise<unknown>
  $executeRawUnsafe(text: string): Promise<unknown>
  $disconnect(): Promise<void>
  order: { create(query: object): Promise<unknown>; findMany(): Promise<unknown[]> }
}

async function connect(connectionString: string): Promise<PrismaLike> {
  const folder = fileURLToPath(new URL('../fixtures/prisma/clients/comments', import.meta.url))
  const { PrismaClient } = await import(await generatePrismaClient(folder))
  const adapter = new PrismaPg({ connectionString })
  return new PrismaClient({ adapter, comments: [requestComments()] }) as PrismaLike
}

const prisma = server && (await connect(server.url))
await prisma?.$executeRawUnsafe('CREATE TABLE orders (id serial PRIMARY KEY, item text NOT NULL)')
afterAll(async () => {
  await prisma?.$disconnect()
  await server?.stop()
})
afterEach(() => setClientSettings({ sqlComments: true }))

// pg has no hook here: what is seen is Prisma's own.
describe.skipIf(prisma === undefined)('Prisma', () => {
  it("puts its spans under the request's, each with the ID and none with a value", async () => {
    const spans = await recorder.spansOf(
      'prisma-1',
      () => prisma?.order.create({ data: { item: 'secret' } }) ?? fail(),
    )
    const names = spans.map((span) => span.name)
    expect(names).toEqual(expect.arrayContaining(['prisma:client:operation', 'prisma:client:db_query']))
    const ids = new Set([recorder.requestSpan(), ...spans].map((span) => span.spanContext().spanId))
    for (const span of spans) {
      expect(span.attributes['correlation.id']).toBe('prisma-1')
      expect(ids).toContain(span.parentSpanContext?.spanId)
      expect(JSON.stringify(span.attributes)).not.toContain('secret')
    }
  })

  it('comments the SQL of its queries with the request, and nothing outside one', async () => {
    await recorder.spansOf('prisma-2', async (request) => {
      request.action = { name: 'createOrder' }
      await prisma?.order.findMany()
    })
    const [line] = linesWith('prisma-2')
    expect(line).toMatch(
      /SELECT .*"orders".*\/\*action='createOrder',correlation_id='prisma-2',traceparent='00-/,
    )
    await prisma?.$queryRawUnsafe('SELECT 1 AS outside')
    expect(linesWith('AS outside').some((outside) => outside.includes('/*'))).toBe(false)
  })

  it('lets an ID that ends a comment do nothing', async () => {
    const id = "x*/; DROP TABLE orders; --'"
    await recorder.spansOf(id, () => prisma?.$queryRawUnsafe('SELECT 1 AS hostile') ?? fail())
    expect(linesWith('AS hostile')).not.toEqual([])
    expect(linesWith('AS hostile').every((line) => !line.includes('x*/'))).toBe(true)
    expect(await prisma?.order.findMany()).toHaveLength(1)
  })

  it('sends SQL as it is when comments are off', async () => {
    setClientSettings({ sqlComments: false })
    await recorder.spansOf('prisma-3', () => prisma?.order.findMany() ?? fail())
    expect(linesWith('prisma-3')).toEqual([])
  })

  function linesWith(text: string): string[] {
    return (server?.log() ?? '').split('\n').filter((line) => line.includes(text))
  }
})

function fail(): never {
  throw new Error('The server is missing.')
}
