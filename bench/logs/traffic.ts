/** Log files as a shop under load writes them: always the same lines, for the same seed. */
import { open } from 'node:fs/promises'
import { LOG_FIELD } from '../../src/telemetry/names.ts'

export interface LogFile {
  path: string
  lines: number
  /** The ID of a request in its second half. */
  correlationId: string
}

const BUFFERED_CHARACTERS = 1024 * 1024

/** Streamed: 1 million lines are 320 MB. Traffic goes on where the file before ended. */
export async function writeLogFile(path: string, lines: number, traffic: Traffic): Promise<LogFile> {
  await using file = await open(path, 'w')
  let correlationId = ''
  let text = ''
  for (let line = 0; line < lines; line += 1) {
    text += `${traffic.line()}\n`
    if (line === Math.floor(lines * 0.6)) correlationId = traffic.newestId
    if (text.length < BUFFERED_CHARACTERS && line < lines - 1) continue
    await file.writeFile(text)
    text = ''
  }
  // What was written to a moment ago is not compacted.
  await file.utimes(0, 0)
  return { path, lines, correlationId }
}

interface Route {
  route: string
  method: string
  /** Requests without one have no line but the canonical one, and those of the app. */
  action?: string
  /** The usual duration, in milliseconds. */
  usualMs: number
}

const ROUTES: readonly Route[] = [
  { route: '/', method: 'GET', usualMs: 18 },
  { route: '/products/[slug]', method: 'GET', usualMs: 35 },
  { route: '/search', method: 'GET', usualMs: 90 },
  { route: '/api/stock', method: 'GET', usualMs: 12 },
  { route: '/cart', method: 'POST', action: 'addToCart', usualMs: 40 },
  { route: '/checkout', method: 'POST', action: 'createOrder', usualMs: 160 },
  { route: '/account', method: 'POST', action: 'updateAddress', usualMs: 60 },
]

const [INFO, WARN, ERROR] = [30, 40, 50]
const SHARE_OF_ERRORS = 0.04
const SHARE_OF_REPLAYS = 0.05
/** Their lines stand between each other's. */
const REQUESTS_AT_ONCE = 8

/** Requests of several lines each; of a hundred lines, some two are errors with a stack. */
export class Traffic {
  /** Of the request that began last. */
  newestId = ''
  readonly #random: () => number
  readonly #open: string[][] = []
  #timeMs = Date.UTC(2026, 0, 15, 8)

  constructor(seed: number) {
    this.#random = randomOf(seed)
  }

  line(): string {
    while (this.#open.length < REQUESTS_AT_ONCE) this.#open.push(this.#request())
    const place = Math.floor(this.#random() * REQUESTS_AT_ONCE)
    const request = this.#open[place] as string[]
    const rest = request.shift() as string
    if (request.length === 0) this.#open.splice(place, 1)
    this.#timeMs += Math.floor(this.#random() * 8)
    // The time is that of writing, so it is put in last.
    return rest.replace('"time":0', `"time":${this.#timeMs}`)
  }

  #request(): string[] {
    const { route, method, action, usualMs } = ROUTES[Math.floor(this.#random() * ROUTES.length)] as Route
    const isError = this.#random() < SHARE_OF_ERRORS
    const isReplay = action !== undefined && this.#random() < SHARE_OF_REPLAYS
    // Most are near the usual, a few take ten times as long.
    const durationMs = Math.round(usualMs * 100 * (0.5 + this.#random() + 9 * this.#random() ** 12)) / 100
    this.newestId = this.#hex(32)
    const ids = {
      [LOG_FIELD.service]: 'shop',
      [LOG_FIELD.correlationId]: this.newestId,
      [LOG_FIELD.traceId]: this.newestId,
    }
    const line = (level: number, msg: string, fields: object) =>
      JSON.stringify({
        level,
        time: 0,
        ...ids,
        [LOG_FIELD.spanId]: this.#hex(16),
        [LOG_FIELD.traceFlags]: 1,
        ...(action !== undefined && { [LOG_FIELD.action]: action }),
        [LOG_FIELD.route]: route,
        ...fields,
        msg,
      })
    const err = isError ? { [LOG_FIELD.error]: this.#error() } : {}
    const lines = [
      line(INFO, 'session read', { user: `user-${this.#hex(6)}`, cached: this.#random() < 0.8 }),
      line(INFO, 'stock read', { sku: `SKU-${this.#hex(8)}`, left: Math.floor(this.#random() * 500) }),
    ]
    if (isReplay) lines.push(line(WARN, 'form was sent twice', { form: `order-${this.#hex(8)}` }))
    if (action !== undefined) {
      const outcome = isError ? 'error' : 'ok'
      const message = isError ? 'action failed' : 'action completed'
      const actionMs = { [LOG_FIELD.durationMs]: Math.round(durationMs * 90) / 100 }
      lines.push(line(isError ? ERROR : INFO, message, { outcome, ...actionMs, ...err }))
    } else if (isError) lines.push(line(ERROR, 'request error', { ...err, [LOG_FIELD.method]: method }))
    const idempotency = {
      outcome: isReplay ? 'replay' : 'won',
      key_hash: this.#hex(16),
      hit: isReplay,
      ...(isReplay && { hits: 1 }),
    }
    lines.push(
      line(isError ? ERROR : INFO, 'request completed', {
        [LOG_FIELD.method]: method,
        [LOG_FIELD.path]: route.replace('[slug]', `shirt-${this.#hex(4)}`),
        [LOG_FIELD.status]: isError ? 500 : method === 'POST' ? 303 : 200,
        [LOG_FIELD.durationMs]: durationMs,
        database_calls: 3,
        database_ms: Math.round(durationMs * 40) / 100,
        ...(action !== undefined && { [LOG_FIELD.idempotency]: idempotency }),
      }),
    )
    return lines
  }

  #error(): object {
    const at = (name: string) =>
      `\n    at ${name} (/srv/shop/.next/server/chunks/ssr/[root-of-the-server]__${this.#hex(8)}._.js:1:${1000 + Math.floor(this.#random() * 90_000)})`
    const message = `connect ECONNREFUSED 10.0.0.${Math.floor(this.#random() * 250)}:5432`
    const frames = [
      'insertOrder',
      'async createOrder',
      'async runOnce',
      'async handleAction',
      'async renderToHTML',
    ]
    const stack = `Error: ${message}${frames.map(at).join('')}`
    return {
      type: 'Error',
      message,
      stack,
      code: 'ECONNREFUSED',
      digest: String(Math.floor(this.#random() * 2 ** 32)),
    }
  }

  #hex(digits: number): string {
    let text = ''
    while (text.length < digits)
      text += Math.floor(this.#random() * 2 ** 32)
        .toString(16)
        .padStart(8, '0')
    return text.slice(0, digits)
  }
}

/** mulberry32: https://gist.github.com/tommyettinger/46a874533244883189143505d203312c */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
