/** How long an attempt may last: so many seconds, and no longer than whoever works has time. */
import { ThroughlineError } from '../errors.js'

/** How long a handler may take to end by itself when no time is left, in milliseconds. */
const DEADLINE_GRACE_MS = 1_000

export class TimeLimit {
  /** Rejects when the attempt is given up. */
  readonly over: Promise<never>
  readonly #controller = new AbortController()
  readonly #expiry: NodeJS.Timeout
  readonly #deadline: AbortSignal | undefined
  #grace: NodeJS.Timeout | undefined
  #giveUp: (reason: unknown) => void = () => {}
  readonly #runOut = () => {
    this.#controller.abort(noTimeLeftError())
    this.#grace = setTimeout(() => this.#giveUp(this.signal.reason), DEADLINE_GRACE_MS)
  }

  constructor(seconds: number, deadline: AbortSignal | undefined) {
    this.over = new Promise<never>((_, reject) => {
      this.#giveUp = reject
    })
    // Nobody may be waiting any more when it comes.
    this.over.catch(() => {})
    this.#expiry = setTimeout(() => {
      this.#controller.abort(expiredError(seconds))
      this.#giveUp(this.signal.reason)
    }, seconds * 1000)
    this.#deadline = deadline
    if (deadline?.aborted) this.#runOut()
    else deadline?.addEventListener('abort', this.#runOut, { once: true })
  }

  /** For the handler. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** True for what a handler throws because there was no time left for it. */
  isOutOfTime(error: unknown): boolean {
    if (this.#deadline?.aborted !== true) return false
    const { name, cause } = (error ?? {}) as { name?: unknown; cause?: unknown }
    const { reason } = this.signal
    return error === reason || cause === reason || name === 'AbortError' || name === 'TimeoutError'
  }

  clear(): void {
    clearTimeout(this.#expiry)
    clearTimeout(this.#grace)
    this.#deadline?.removeEventListener('abort', this.#runOut)
  }
}

function expiredError(seconds: number): ThroughlineError {
  return new ThroughlineError('OUTBOX_ATTEMPT_EXPIRED', `The handler lasted longer than ${seconds} s.`, {
    why: 'That is how long an attempt may last; what complete wrote was rolled back.',
    fix: 'Hand attempt.signal on to what the handler waits for, or raise expireInSeconds of createOutbox.',
  })
}

function noTimeLeftError(): ThroughlineError {
  return new ThroughlineError('OUTBOX_NO_TIME_LEFT', 'The deadline of the drain has come.', {
    why: 'The handler was still running; its message is given back, and the attempt does not count.',
    fix: 'Nothing is lost: the next drain takes it. If no drain gets it done, raise deadlineMs.',
  })
}
