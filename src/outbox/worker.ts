/**
 * Hands that work a topic off: as many messages at once as there are hands, asked for in one go, and asked for again as
 * soon as a hand is free.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { logger } from '../logging/index.js'

/** A running worker. */
export interface OutboxWorker {
  /** Takes no more, and waits for the handlers that run. */
  stop(): Promise<void>
}

export interface WorkLoop<Job> {
  topic: string
  /** How many messages may be under way at once. */
  hands: number
  /** How long it waits where there was nothing to take, in milliseconds. */
  pollingIntervalMs: number
  /** Puts right what was left behind; now and then. */
  tidy(): Promise<void>
  /** Takes up to so many. */
  take(most: number): Promise<Job[]>
  handle(job: Job): Promise<unknown>
}

/** How long it waits for other hands, where few are free. */
const GATHER_MS = 2

/** How often it is tidied up. */
const TIDY_EVERY_MS = 15_000

/** How long an answer of the database is waited for at the end: what it gives then is taken back when its time is over. */
const LAST_ANSWER_MS = 5_000

/** The longest wait while the database does not answer. */
const MAX_OUTAGE_WAIT_MS = 5_000

export function startWorking<Job>(loop: WorkLoop<Job>): OutboxWorker {
  const running = new Set<Promise<unknown>>()
  const alarm = new Alarm()
  let isStopping = false

  async function work(): Promise<void> {
    let failures = 0
    let tidiedAt = Number.NEGATIVE_INFINITY
    while (!isStopping) {
      const free = loop.hands - running.size
      let waitMs = loop.pollingIntervalMs
      try {
        if (performance.now() - tidiedAt > TIDY_EVERY_MS) {
          tidiedAt = performance.now()
          await loop.tidy()
        }
        for (const job of free > 0 ? await loop.take(free) : []) hold(job)
        if (failures > 0) logger.info({ topic: loop.topic, failures }, 'outbox is read again')
        failures = 0
      } catch (error) {
        failures += 1
        waitMs = Math.min(MAX_OUTAGE_WAIT_MS, loop.pollingIntervalMs * 2 ** Math.min(failures, 10))
        if (failures === 1) logger.warn({ topic: loop.topic, err: error }, 'outbox cannot be read')
      }
      if (isStopping) break
      await alarm.sleep(running.size < loop.hands ? waitMs : undefined)
      // Others will be free in a moment: one look for several is cheaper than one for each.
      if (running.size > loop.hands / 2) await sleep(GATHER_MS)
    }
  }

  function hold(job: Job): void {
    const handling = loop
      .handle(job)
      .catch((error: unknown) =>
        logger.error({ topic: loop.topic, err: error }, 'message could not be settled'),
      )
      .finally(() => {
        running.delete(handling)
        // There may be more, or one that waited for this.
        alarm.ring()
      })
    running.add(handling)
  }

  const ended = work()
  return {
    async stop() {
      isStopping = true
      alarm.ring()
      const patience = new AbortController()
      await Promise.race([ended, sleep(LAST_ANSWER_MS, undefined, patience)])
      patience.abort()
      await Promise.all(running)
    },
  }
}

/** A sleep that can be ended; a ring that nobody slept through ends the next at once. */
class Alarm {
  #isRung = false
  #wake: (() => void) | undefined

  ring(): void {
    this.#isRung = true
    this.#wake?.()
  }

  /** @param ms forever when it is undefined */
  async sleep(ms: number | undefined): Promise<void> {
    if (!this.#isRung) {
      await new Promise<void>((resolve) => {
        const timer = ms === undefined ? undefined : setTimeout(resolve, ms)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.#wake = undefined
    }
    this.#isRung = false
  }
}
