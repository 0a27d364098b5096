/** Runs `throughline outbox` as people do, on a real Postgres: a child process of the compiled command. `npm run build` first. */
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runInContext } from '../../src/context/index.ts'
import { createOutbox, defineTopics, openMessages } from '../../src/outbox/index.ts'
import { transaction } from '../../src/postgres/transaction.ts'
import { eventually } from '../support/eventually.ts'
import { startPostgres } from '../support/postgres.ts'
import { recordSpans } from '../support/traced-requests.ts'
import { anything } from './outbox-topics.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

const server = await startPostgres()
const recorder = recordSpans()
const pool = new pg.Pool({ connectionString: server?.url })
const ends: (() => Promise<void>)[] = []
afterAll(async () => {
  for (const end of ends) await end()
  await pool.end()
  await server?.stop()
})

describe.skipIf(server === undefined)('throughline outbox', () => {
  /** An outbox of its own tables with one topic that never works, and one that does. */
  async function shop() {
    const schema = `shop_${randomUUID().slice(0, 8)}`
    const topics = defineTopics({ charge: anything<{ orderId: string }>(), receipt: anything<object>() })
    const outbox = createOutbox({ db: pool, topics, schema, retryLimit: 1, retryDelayMaxSeconds: 1 })
    await outbox.start()
    ends.push(() => outbox.stop())
    const handled: string[] = []
    let isBankOpen = false
    const worker = await outbox.work(
      {
        charge: async ({ orderId }, { messageId }) => {
          if (!isBankOpen) throw new Error(`the bank is\u001b[31m closed, ${orderId}`)
          handled.push(messageId)
        },
      },
      { pollingIntervalSeconds: 0.05 },
    )
    ends.push(() => worker.stop())
    const send = (correlationId: string, orderId: string) =>
      recorder.inRequest(correlationId, (request) =>
        runInContext({ ...request, action: { name: 'createOrder' } }, async () => {
          await transaction(pool, async (tx) => {
            await outbox.send(tx, 'charge', { orderId })
          })
        }),
      )
    const messages = await openMessages({ db: pool, schema })
    ends.push(() => messages.close())
    const deadIn = async (correlationId: string) => {
      const found = await eventually(async () => {
        const [message] = (await messages.find(correlationId)).filter(({ state }) => state === 'dead')
        if (message === undefined) throw new Error('not dead yet')
        return message
      })
      return found
    }
    return {
      ...{ outbox, schema, handled, send, messages, deadIn },
      openBank: () => {
        isBankOpen = true
      },
      run: (...args: string[]) => run([...args, '--schema', schema]),
    }
  }

  it('lists topics and messages, and shows one with what sent it and each attempt', async () => {
    const { send, deadIn, run, outbox } = await shop()
    await send('click-1', 'order-1')
    const sender = recorder.requestSpan().spanContext().traceId
    await transaction(pool, (tx) => outbox.send(tx, 'receipt', { email: 'ada@example.org' }))
    const dead = await deadIn('click-1')
    const attempts = recorder.taken().filter(({ name }) => name === 'process charge')

    const list = run('outbox')
    expect(list).toMatchObject({ status: 0, stderr: '' })
    expect(list.stdout).toMatch(/^topic +waiting +oldest +deferred +retrying +active +dead +done$/m)
    expect(list.stdout).toMatch(/^charge +· +· +· +· +1 +·$/m)
    expect(list.stdout).toMatch(/^receipt +1 +[\d.]+ m?s +· +· +· +· +·$/m)
    expect(list.stdout).toMatch(
      new RegExp(`^${dead.id} +charge +dead +2/2 +[\\d-]+ [\\d:]+\n +✗ Error: the bank`, 'm'),
    )
    expect(list.stdout).not.toContain('ada@example.org')

    const story = run('outbox', 'click-1')
    expect(story.status).toBe(0)
    expect(story.stdout).toMatch(/^state +dead, after 2 attempts$/m)
    expect(story.stdout).toMatch(new RegExp(`sent by createOrder +trace ${sender}`))
    expect(attempts).toHaveLength(2)
    for (const [index, span] of attempts.entries())
      expect(story.stdout).toMatch(
        new RegExp(`attempt ${index + 1} failed +trace ${span.spanContext().traceId}`),
      )
    expect(story.stdout).toContain(`throughline outbox redrive ${dead.id}`)
    expect(story.stdout).toContain('throughline trace click-1')
    expect(story.stdout).not.toContain('order-1"')
    // What a stranger wrote is no command to the terminal.
    expect(story.stdout).toContain('the bank is\\x1b[31m closed')

    const found = JSON.parse(run('outbox', dead.id.slice(0, 8), '--json').stdout)
    expect(found.messages[0]).toMatchObject({
      state: 'dead',
      sent: { correlationId: 'click-1', action: 'createOrder' },
      failed: [{ attempt: 1 }, { attempt: 2, type: 'Error' }],
    })
    expect(found.messages[0]).not.toHaveProperty('payload')
    const withPayload = JSON.parse(run('outbox', dead.id, '--json', '--payload').stdout)
    expect(withPayload.messages[0].payload).toEqual({ orderId: 'order-1' })
    expect(run('outbox', 'click-1', '--payload').stdout).toMatch(/^payload +\{"orderId":"order-1"\}$/m)
    expect(run('outbox', '--state', 'waiting', '--json').stdout).not.toContain('click-1')
  })

  it('redrives a dead letter under the same message ID, when it is told to', async () => {
    const { send, deadIn, run, openBank, handled, messages } = await shop()
    await send('click-2', 'order-2')
    const dead = await deadIn('click-2')
    expect(run('outbox', 'redrive', dead.id)).toMatchObject({ status: 2, stdout: '' })
    expect(run('outbox', 'redrive', dead.id).stderr).toContain('say --yes')
    openBank()
    expect(run('outbox', 'redrive', dead.id, '--yes')).toMatchObject({
      status: 0,
      stdout: '1 message redriven.\n',
    })
    await eventually(() => expect(handled).toEqual([dead.messageId]))
    const [done] = await eventually(async () => {
      const found = (await messages.find('click-2')).filter(({ state }) => state === 'done')
      expect(found).toHaveLength(1)
      return found
    })
    expect(done?.failed.map(({ attempt }) => attempt)).toEqual([1, 2])
    const story = run('outbox', dead.messageId)
    expect(story.stdout).toMatch(/attempt 1 failed[\s\S]*attempt 2 failed[\s\S]*attempt 1 handled it/)
    expect(run('outbox', 'redrive', dead.messageId, '--yes')).toMatchObject({ status: 1, stdout: '' })
  })

  it('discards what it is told to, and no more', async () => {
    const { send, deadIn, run, messages } = await shop()
    for (const click of ['click-3', 'click-4']) await send(click, click)
    const [first] = [await deadIn('click-3'), await deadIn('click-4')]
    expect(run('outbox', 'discard', first.id, '--yes', '--json')).toMatchObject({
      status: 0,
      stdout: '{\n  "discarded": 1\n}\n',
    })
    expect((await messages.list({ states: ['dead'] })).map(({ sent }) => sent.correlationId)).toEqual([
      'click-4',
    ])
    expect(run('outbox', 'discard', '--topic', 'charge', '--yes').stdout).toBe('1 message discarded.\n')
    expect(run('outbox', 'discard', '--all', '--yes')).toMatchObject({ status: 1 })
  })

  it('asks a person first, and takes anything but yes for no', async () => {
    const { send, deadIn, schema, messages } = await shop()
    await send('click-5', 'order-5')
    const dead = await deadIn('click-5')
    const ask = (answer: string) =>
      // A terminal of its own: `script` of util-linux.
      spawnSync(
        'script',
        ['-qec', `${process.execPath} ${MAIN} outbox discard ${dead.id} --schema ${schema}`, '/dev/null'],
        {
          input: answer,
          env: { ...process.env, DATABASE_URL: server?.url, NO_COLOR: '1' },
          encoding: 'utf8',
        },
      )
    const refused = ask('n\n')
    expect(refused.stdout).toContain(dead.id)
    expect(refused.stdout).toContain('Delete for good? [y/N]')
    expect(refused.stdout).toContain('nothing was done')
    expect(refused.status).toBe(1)
    expect(await messages.find('click-5')).not.toEqual([])
    expect(ask('y\n').stdout).toContain('1 message discarded.')
    expect((await messages.find('click-5')).filter(({ state }) => state === 'dead')).toEqual([])
  })

  it.each([
    [['outbox', 'redrive'], 2, /name messages, or --topic, or --all/],
    [['outbox', 'redrive', 'a', '--all'], 2, /one of the three/],
    [['outbox', '--state', 'lost'], 2, /Allowed choices are waiting/],
    [['outbox', '-n', 'many'], 2, /whole number/],
    [['outbox', '--schema', 'a; DROP'], 2, /letters, digits/],
    [['outbox', '--schema', 'nowhere'], 1, /This database has no outbox.*--schema/s],
    [['outbox', '--database-url', 'postgres://127.0.0.1:1/none'], 1, /cannot be asked: .*ECONNREFUSED/],
    [
      ['outbox', 'discard', 'nothing-like-it', '--yes', '--schema', 'known'],
      1,
      /no dead letter is "nothing-like-it"/,
    ],
    [['outbox', 'nothing-like-it', '--schema', 'known'], 1, /no message found for "nothing-like-it"/],
  ])('ends %j with %i, and says why', async (args, status, message) => {
    const result = run(args)
    expect(result.status).toBe(status)
    expect(result.stderr).toMatch(message)
  })
  beforeAll(async () => {
    const known = createOutbox({ db: pool, topics: defineTopics({ a: anything() }), schema: 'known' })
    await known.start()
    await known.stop()
  })

  it('says what to do without a database, and explains itself with examples', () => {
    expect(run(['outbox'], { DATABASE_URL: '' }).stderr).toContain('Set DATABASE_URL, or give --database-url')
    expect(run(['outbox', '--help']).stdout).toContain('$ throughline outbox redrive --topic payment.charge')
    expect(run(['outbox', 'redrive', '--help']).stdout).toContain('asks first')
  })
})

function run(args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    env: { ...process.env, DATABASE_URL: server?.url, LC_ALL: 'C.UTF-8', ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  expect(stripVTControlCharacters(stdout)).toBe(stdout)
  return { status, stdout, stderr }
}
