import { randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { runOnce } from '../../src/idempotency/index.ts'
import { memoryStore } from '../../src/idempotency/stores/memory.ts'
import { action } from '../../src/next/action.ts'
import { recordSpans } from './action-spans.ts'

const { spansNamed } = recordSpans()

/** Runs once in an action of its own, and gives the span's attributes and links. */
async function use(changes: object) {
  const name = `use-${randomUUID()}`
  const options = {
    name: 'createOrder',
    scope: 'ann',
    key: randomUUID(),
    payload: { id: 'none' },
    ...changes,
  }
  let keyHash = ''
  const shown = { ...options, onUse: (use: { keyHash: string }) => (keyHash = use.keyHash) }
  const result = await action(name, () => runOnce(memoryStore(), shown, () => 'ran'))()
  const span = spansNamed(`action ${name}`)[0]
  return { attributes: span?.attributes ?? {}, links: span?.links ?? [], span, keyHash, result }
}

describe('a payload that comes again under another key', () => {
  it('is flagged with a link to the first, and runs', async () => {
    const payload = { id: randomUUID() }
    const first = await use({ payload })
    const second = await use({ payload })
    expect(second.result).toBe('ran')
    expect(first.attributes).not.toHaveProperty('idempotency.suspect')
    expect(second.attributes).toMatchObject({
      'idempotency.hit': false,
      'idempotency.outcome': 'won',
      'idempotency.suspect': true,
      'idempotency.suspect.key_hash': first.keyHash,
    })
    expect(second.links.map(({ context }) => context.traceId)).toEqual([first.span?.spanContext().traceId])
    expect(second.span?.events.map(({ name }) => name)).toEqual(['idempotency.suspect'])
  })

  it('is not flagged for another scope, run or payload, for a replay, after the window, or when it is off', async () => {
    const payload = { id: randomUUID() }
    const key = randomUUID()
    const flags = []
    for (const changes of [
      { key },
      { key },
      { scope: 'bob' },
      { name: 'createRefund' },
      { payload: { id: randomUUID() } },
      { suspectWindowMs: 0 },
    ]) {
      flags.push((await use({ payload, ...changes })).attributes['idempotency.suspect'])
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
    flags.push((await use({ payload, suspectWindowMs: 1 })).attributes['idempotency.suspect'])
    expect(flags).toEqual(Array(7).fill(undefined))
  })
})
