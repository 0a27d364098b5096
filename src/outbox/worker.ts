/**
 * Hands that work a topic off: as many messages at once as there are hands, asked for in one go, and asked for again as
 * soon as a hand is free.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { logger } from '../logging/index.js'

/** A running worker. */
export interface OutboxWorker {
  /** Takes no more, and waits for what runs. */
  stop(): Promise<void>
}

export interface WorkLoop<Job> {
  topic: string
  /** How many messages may be under way at once. */
  hands: number
  /** How long it waits where there was nothing to take, in milliseconds. */
  pollingIntervalMs: number
  /** Takes up to so many. */
  take(most: number): Promise<Job[]>
  /** Never rejects. */
  handle(job: Job): Promise<unknown>
}

/** How long it waits for other hands, where few are free. */
const GATHER_MS = 2

/** The longest wait while the database does not answer. */
const MAX_OUTAGE_WAIT_MS = 5_000

export function startWorking<Job>(loop: WorkLoop<Job>): OutboxWorker {
  const running = new Set<Promise<unknown>>()
  const alarm = new Alarm()
  let isStopping = false

  async function work(): Promise<void> {
    let failures = 0
    while (!isStopping) {
      const free = loop.hands - running.size
      let waitMs = loop.pollingIntervalMs
      try {
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
    await Promise.all(running)
  }

  function hold(job: Job): void {
    const handling = loop.handle(job).finally(() => {
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
      await ended
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
