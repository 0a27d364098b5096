/** Runs `throughline worker` as people do: a child process of the compiled command. `npm run build` first. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runWithCorrelation } from '../../src/context/index.ts'
import { createOutbox } from '../../src/outbox/index.ts'
import { transaction } from '../../src/postgres/transaction.ts'
import { eventually } from '../support/eventually.ts'
import { startPostgres } from '../support/postgres.ts'
import { anything } from './outbox-topics.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const PACKAGES = fileURLToPath(new URL('../../node_modules', import.meta.url))
const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

const server = await startPostgres()
const folder = mkdtempSync(join(tmpdir(), 'throughline-worker-'))

beforeAll(() => {
  // The app's packages: the repository's, and the package itself as it is built.
  mkdirSync(join(folder, 'node_modules'))
  for (const name of ['pg', 'pg-boss', '@opentelemetry']) {
    symlinkSync(join(PACKAGES, name), join(folder, 'node_modules', name))
  }
  symlinkSync(REPOSITORY, join(folder, 'node_modules/throughline'))
  writeFileSync(
    join(folder, 'worker.mjs'),
    `import pg from 'pg'
import { createOutbox, defineTopics } from 'throughline/outbox'
const anything = { '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value }) } }
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL })
const outbox = createOutbox({ db, topics: defineTopics({ greet: anything }) })
export default () => outbox.work({
  greet: async ({ name, waitMs }, { complete, log }) => {
    log.info({ greeted: name }, 'greeting')
    await new Promise((resolve) => setTimeout(resolve, waitMs))
    await complete((tx) => tx.query('INSERT INTO greetings VALUES ($1)', [name]))
  },
})
`,
  )
  writeFileSync(join(folder, 'package.json'), '{ "name": "shop" }')
  writeFileSync(join(folder, 'no-worker.mjs'), 'export default 7\n')
})
afterAll(async () => {
  await server?.stop()
  rmSync(folder, { recursive: true, force: true })
})

describe.skipIf(server === undefined)('throughline worker', () => {
  const pool = new pg.Pool({ connectionString: server?.url })
  const outbox = createOutbox({ db: pool, topics: { greet: anything() } })
  beforeAll(async () => {
    await pool.query('CREATE TABLE greetings (name text)')
    await outbox.start()
  })
  afterAll(async () => {
    await outbox.stop()
    await pool.end()
  })
  const send = (name: string, waitMs: number) =>
    runWithCorrelation(`sender-of-${name}`, () =>
      transaction(pool, (tx) => outbox.send(tx, 'greet', { name, waitMs })),
    )
  const greeted = async () =>
    (await pool.query<{ name: string }>('SELECT name FROM greetings')).rows.map(({ name }) => name)

  it('handles messages under the ID of their sender, finishes the one in hand when it is asked to end, and ends', async () => {
    const worker = run(['worker', join(folder, 'worker.mjs')])
    await worker.said('working:')
    await send('first', 0)
    await eventually(async () => expect(await greeted()).toEqual(['first']))
    await send('slow', 1_500)
    await eventually(() => expect(linesOf(folder, 'greeting')).toHaveLength(2))
    worker.process.kill('SIGTERM')
    expect(await worker.ended).toBe(0)
    expect(await greeted()).toEqual(['first', 'slow'])
    expect(worker.output()).toMatch(/SIGTERM: waiting for handlers that run, up to 30 s\..*ended after/s)
    expect(linesOf(folder, 'greeting').map(({ correlation_id }) => correlation_id)).toEqual([
      'sender-of-first',
      'sender-of-slow',
    ])
    const spans = filesOf(join(folder, '.throughline/traces'))
    expect(spans).toContain('sender-of-slow')
    expect(linesOf(folder, 'greeting').map(({ service }) => service)).toEqual(['shop-worker', 'shop-worker'])
  })

  it('does not wait longer than it may', async () => {
    const worker = run(['worker', join(folder, 'worker.mjs'), '--drain-timeout', '0.2'])
    await worker.said('working:')
    await send('too-slow', 20_000)
    await eventually(() => expect(linesOf(folder, 'greeting')).toHaveLength(3))
    worker.process.kill('SIGINT')
    expect(await worker.ended).toBe(1)
    expect(worker.output()).toContain('their messages are tried again')
    expect(await greeted()).not.toContain('too-slow')
  })

  it.each([
    [['worker'], 2, /missing required argument 'file'/],
    [['worker', './nowhere.mjs'], 2, /There is no file \.\/nowhere\.mjs/],
    [['worker', 'no-worker.mjs'], 1, /exports no worker\..*Export one as the default/],
    [['worker', 'worker.mjs', '--drain-timeout', 'long'], 2, /number of seconds/],
  ])('ends %j with %i, and says why', async (args, status, message) => {
    const worker = run(args)
    expect(await worker.ended).toBe(status)
    expect(worker.output()).toMatch(message)
  })

  it('explains itself, with examples', async () => {
    const worker = run(['worker', '--help'])
    expect(await worker.ended).toBe(0)
    expect(worker.output()).toContain('$ throughline worker ./worker.ts')
  })
})

function run(args: string[]) {
  const process = spawn(globalThis.process.execPath, [MAIN, ...args], {
    cwd: folder,
    env: { ...globalThis.process.env, DATABASE_URL: server?.url, OTEL_BSP_SCHEDULE_DELAY: '100' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  return {
    process,
    output: () => output,
    said: (text: string) => eventually(() => expect(output).toContain(text), 20_000),
    ended: once(process, 'close').then(([status]) => status as number),
  }
}

function linesOf(directory: string, message: string): Record<string, unknown>[] {
  return filesOf(join(directory, '.throughline/logs'))
    .split('\n')
    .filter((line) => line.includes(`"msg":"${message}"`))
    .map((line) => JSON.parse(line))
}

function filesOf(directory: string): string {
  try {
    return readdirSync(directory)
      .sort()
      .map((name) => readFileSync(join(directory, name), 'utf8'))
      .join('')
  } catch {
    return ''
  }
}
