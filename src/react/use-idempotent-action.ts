'use client'

import { useCallback, useRef, useState, useTransition } from 'react'
import { contentOf } from './form-content.js'
import { mint } from './kept-key.js'

/** How a call is retried. */
export interface UseIdempotentActionOptions {
  /** Field of the form, or property of the payload, that gets the key. Default `idempotencyKey`. */
  field?: string
  /** Tries in all. Default 5. */
  maxAttempts?: number
  /** Longest first pause, in milliseconds; doubled for each further one, of which a random part is waited. Default 500. */
  firstDelayMs?: number
  /** Longest pause, in milliseconds. Default 10,000. */
  maxDelayMs?: number
  /** Which failures are tried again. Default: those of the network, where the server may or may not have run. */
  isRetryable?: (error: unknown) => boolean
}

/** The action, to be called once per intent. */
export interface IdempotentActionCall<Payload, Result> {
  /**
   * Calls the action. Rejects with its error, or with the network's after the last try: the next call with the
   * same payload then sends the same key. Where the action redirects, Next navigates and the promise stays open.
   */
  run(payload: Payload): Promise<Result>
  isPending: boolean
  /** Number of the current try, from 1; 0 when none is under way. */
  attempt: number
}

/**
 * Calls a Server Action from an event handler, and again with the same key when the network fails.
 *
 * @param action guarded by `idempotentAction`, its key in `field` of what is sent
 * @example
 * const { run, isPending } = useIdempotentAction(createOrder)
 * <button onClick={() => run({ item: 'tea' })} disabled={isPending}>
 */
export function useIdempotentAction<Payload extends FormData | Record<string, unknown>, Result>(
  action: (payload: Payload) => Promise<Result>,
  options: UseIdempotentActionOptions = {},
): IdempotentActionCall<Payload, Result> {
  const [isPending, startTransition] = useTransition()
  const [attempt, setAttempt] = useState(0)
  /** Keys without an answer yet, by what they were sent with: each intent has its own. */
  const open = useRef(new Map<string, string>())
  const latest = useRef({ action, options })
  latest.current = { action, options }

  const run = useCallback((payload: Payload): Promise<Result> => {
    const { action, options } = latest.current
    const field = options.field ?? 'idempotencyKey'
    const content = contentOf(payload, field)
    const key = open.current.get(content) ?? mint()
    open.current.set(content, key)
    const answered = () => {
      if (open.current.get(content) === key) open.current.delete(content)
    }
    return new Promise<Result>((resolve, reject) => {
      startTransition(async () => {
        try {
          const result = await tryUntilAnswered(
            () => action(withKey(payload, field, key)),
            options,
            setAttempt,
          )
          answered()
          resolve(result)
        } catch (error) {
          // Next navigates by what a transition throws.
          if (isControlFlow(error)) {
            answered()
            throw error
          }
          reject(error)
        } finally {
          setAttempt(0)
        }
      })
    })
  }, [])
  return { run, isPending, attempt }
}

async function tryUntilAnswered<Result>(
  call: () => Promise<Result>,
  {
    maxAttempts = 5,
    firstDelayMs = 500,
    maxDelayMs = 10_000,
    isRetryable = isNetworkFailure,
  }: UseIdempotentActionOptions,
  onAttempt: (attempt: number) => void,
): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    onAttempt(attempt)
    try {
      return await call()
    } catch (error) {
      if (attempt >= maxAttempts || isControlFlow(error) || !isRetryable(error)) throw error
      // Full jitter: clients that failed together do not come back together.
      await pause(Math.random() * Math.min(maxDelayMs, firstDelayMs * 2 ** (attempt - 1)))
      await untilOnline()
    }
  }
}

/** `fetch` rejects with a TypeError; Next says so itself of an answer that a proxy gave in the server's place. */
function isNetworkFailure(error: unknown): boolean {
  return (
    error instanceof TypeError ||
    (error instanceof Error && error.message === 'An unexpected response was received from the server.')
  )
}

function isControlFlow(error: unknown): boolean {
  const digest = (error as { digest?: unknown } | null)?.digest
  return typeof digest === 'string' && digest.startsWith('NEXT_')
}

function withKey<Payload extends FormData | Record<string, unknown>>(
  payload: Payload,
  field: string,
  key: string,
): Payload {
  if (!(payload instanceof FormData)) return { ...payload, [field]: key }
  const copy = new FormData()
  for (const [name, value] of payload) if (name !== field) copy.append(name, value)
  copy.append(field, key)
  return copy as Payload
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function untilOnline(): Promise<void> {
  if (navigator.onLine) return Promise.resolve()
  return new Promise((resolve) => window.addEventListener('online', () => resolve(), { once: true }))
}
