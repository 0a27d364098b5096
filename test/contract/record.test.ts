import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { IdempotencyRecord } from '../../src/idempotency/contract.ts'
import { claim, type OwnerVerb, settle } from '../../src/idempotency/record.ts'
import { type StoreCommand, someCommands } from './store-commands.ts'

interface Step {
  before: IdempotencyRecord | undefined
  after: IdempotencyRecord | undefined
  command: Exclude<StoreCommand, { do: 'pass' }>
  answer: string | boolean
  nowMs: number
}

describe('the record machine', () => {
  it('gives a key one owner at a time, until the lease or the run ends', () => {
    always(({ before, answer, nowMs }) => {
      const isRunning = before?.state === 'claimed' && nowMs < before.leaseEndsAt
      if (isRunning) expect(answer).not.toBe('won')
      if (isRunning) expect(answer).not.toBe('takeover')
    })
  })

  it('never runs again what is completed, unknown, or died after its effects began', () => {
    always(({ before, command, answer, nowMs }) => {
      if (command.do !== 'claim' || before === undefined || before.expiresAt <= nowMs) return
      const mayHaveHappened = before.state === 'completed' || before.state === 'unknown' || before.hasEffects
      if (mayHaveHappened && before.state !== 'aborted') expect(['won', 'takeover']).not.toContain(answer)
    })
  })

  it('replays to the same payload only, and only what was completed', () => {
    always(({ before, command, answer }) => {
      if (command.do !== 'claim' || answer !== 'replay') return
      expect(before).toMatchObject({ state: 'completed', fingerprint: command.fingerprint })
    })
  })

  it('raises the fence with each run and never lowers it', () => {
    always(({ before, after, answer, nowMs }) => {
      if (before === undefined || before.expiresAt <= nowMs) return
      const isRun = answer === 'won' || answer === 'takeover'
      expect(after?.fence).toBe(before.fence + (isRun ? 1 : 0))
    })
  })

  it('changes nothing when it refuses', () => {
    always(({ before, after, answer }) => {
      if (answer === false) expect(after).toBe(before)
    })
  })

  it('keeps a result for ever once it is there, for as long as the record lives', () => {
    always(({ before, after, nowMs }) => {
      if (before?.result === undefined || before.expiresAt <= nowMs) return
      expect(after).toMatchObject({ state: 'completed', result: before.result, expiresAt: before.expiresAt })
    })
  })

  it('bounds the timeline, and counts no fewer hits than before', () => {
    always(({ before, after, nowMs }) => {
      expect(after?.uses.length ?? 0).toBeLessThanOrEqual(32)
      if (before === undefined || before.expiresAt <= nowMs) return
      expect(after?.hits).toBeGreaterThanOrEqual(before.hits)
      expect(after).toMatchObject({ firstUsedAt: before.firstUsedAt, origin: before.origin })
    })
  })

  it('answers a claim that is sent twice with one token as the first time', () => {
    const request = { key: 'key', fingerprint: 'f', leaseMs: 100, retentionMs: 500 }
    const first = claim(undefined, request, 'key.1', 1_000)
    const again = claim(first.record, request, 'key.1', 1_001)
    expect(again.record).toBe(first.record)
    expect(again.claim).toMatchObject({ outcome: 'won', token: 'key.1', hits: 0, fence: 1 })
  })
})

/** Checks a property at every step of random histories. */
function always(check: (step: Step) => void): void {
  fc.assert(
    fc.property(someCommands, (commands) => {
      for (const step of history(commands)) check(step)
    }),
    { numRuns: 300 },
  )
}

function* history(commands: readonly StoreCommand[]): Generator<Step> {
  let record: IdempotencyRecord | undefined
  let nowMs = 1_000
  const tokens: string[] = []
  for (const command of commands) {
    if (command.do === 'pass') {
      nowMs += command.ms
      continue
    }
    const before = record
    let answer: string | boolean
    if (command.do === 'claim') {
      const { fingerprint, leaseMs, isRepeat } = command
      const token = `key.${randomUUID()}`
      const used = claim(
        record,
        { key: 'key', fingerprint, leaseMs, retentionMs: 500, isRepeat },
        token,
        nowMs,
      )
      if ('token' in used.claim) tokens.push(token)
      record = used.record
      answer = used.claim.outcome
    } else {
      const verb: OwnerVerb =
        command.do === 'complete' ? { verb: 'complete', result: `${tokens.length}` } : { verb: command.do }
      const settled = settle(record, tokens.at(-1 - command.run) ?? 'key.none', verb, nowMs)
      answer = settled !== undefined
      record = settled ?? record
    }
    yield { before, after: record, command, answer, nowMs }
  }
}
