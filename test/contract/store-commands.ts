/** Random uses of one key, for the property that every store moves as `record.ts` does. */
import fc from 'fast-check'
import type { CreateStore } from './idempotency-store.ts'

export type StoreCommand =
  | { do: 'claim'; fingerprint: 'f' | 'g'; leaseMs: number; isRepeat: boolean; trace: string }
  /** `run`: which of the tokens given out so far, from the last. */
  | { do: 'renew' | 'markEffects' | 'abort' | 'markUnknown' | 'complete'; run: number }
  | { do: 'pass'; ms: number }

const RETENTION_MS = 500

export const someCommands: fc.Arbitrary<StoreCommand[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: claims() },
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constantFrom('renew', 'markEffects', 'abort', 'markUnknown', 'complete'),
        run: fc.constantFrom(0, 0, 0, 1, 2),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('pass'), ms: fc.constantFrom(1, 50, 99, 100, 500, 700) }),
    },
  ) as fc.Arbitrary<StoreCommand>,
  { minLength: 1, maxLength: 40 },
)

function claims() {
  return fc.record({
    do: fc.constant('claim'),
    fingerprint: fc.constantFrom('f', 'f', 'f', 'g'),
    leaseMs: fc.constantFrom(50, 100),
    isRepeat: fc.constantFrom(false, false, true),
    trace: fc.constantFrom('a', 'b', ''),
  })
}

/** Does the commands to one key, and tells each answer and each state after it; tokens by their number. */
export async function runCommands(
  createStore: CreateStore,
  commands: readonly StoreCommand[],
): Promise<unknown[]> {
  let nowMs = 1_790_000_000_000
  const store = await createStore(() => nowMs)
  const tokens: string[] = []
  const log: unknown[] = []
  const numbered = <T extends { token?: string }>(value: T | undefined) =>
    value?.token === undefined ? value : { ...value, token: tokens.indexOf(value.token) }

  for (const command of commands) {
    if (command.do === 'pass') {
      nowMs += command.ms
    } else if (command.do === 'claim') {
      const { fingerprint, leaseMs, isRepeat, trace } = command
      const origin =
        trace === ''
          ? undefined
          : { traceId: trace.repeat(32), spanId: trace.repeat(16), correlationId: trace }
      const claim = await store.claim({
        key: 'key',
        fingerprint,
        leaseMs,
        retentionMs: RETENTION_MS,
        isRepeat,
        origin,
      })
      if ('token' in claim) tokens.push(claim.token)
      log.push(numbered(claim as typeof claim & { token?: string }))
    } else {
      const token = tokens.at(-1 - command.run) ?? 'key.none'
      const isAccepted =
        command.do === 'complete'
          ? await store.complete(token, `result ${log.length}`)
          : await store[command.do](token)
      log.push([command.do, isAccepted])
    }
    log.push(numbered(await store.read('key')))
  }
  return log
}
