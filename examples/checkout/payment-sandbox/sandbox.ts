/**
 * A payment provider to try things out against: slow, unreliable, and true to its idempotency key. It forgets
 * everything at its end.
 *
 *   POST /charges   with an Idempotency-Key: charges once per key, and gives the same charge for it again
 *   GET  /charges   every charge, the oldest first: one made twice, or without its order, would be seen
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Charge {
  id: string
  orderId: number
  cents: number
}

/** How a request fails: a 503 that charged nothing, or one after the charge, whose answer is lost. */
export type Failure = 'before' | 'after'

export interface SandboxOptions {
  /** Default: one that is free. */
  port?: number
  /** The longest wait before an answer, in milliseconds. Default 150. */
  latencyMs?: number
  /** The share of charges that fail, from 0 to 1: half before charging, half after. Default 0.2. */
  failureRate?: number
  /** How the first charges fail, one after the other; later ones fail by chance. Default none. */
  failures?: Failure[]
}

export interface Sandbox {
  url: string
  charges(): Charge[]
  /** The next charge fails. */
  failNext(failure: Failure): void
  stop(): Promise<void>
}

/** Starts one, on loopback. */
export async function startSandbox(options: SandboxOptions = {}): Promise<Sandbox> {
  const { port = 0, latencyMs = 150, failureRate = 0.2, failures = [] } = options
  const planned = [...failures]
  const made = new Map<string, { body: string; charge: Charge }>()
  const charges = () => [...made.values()].map(({ charge }) => charge)

  const nextFailure = (): Failure | undefined => {
    if (planned.length > 0) return planned.shift()
    if (Math.random() >= failureRate) return undefined
    return Math.random() < 0.5 ? 'before' : 'after'
  }

  async function charge(key: string | undefined, body: string): Promise<[status: number, answer: unknown]> {
    if (!key) return [400, { error: 'The header Idempotency-Key is missing.' }]
    const order = orderIn(body)
    if (order === undefined) return [400, { error: 'Send { "orderId": …, "cents": … }, both whole numbers.' }]
    const failure = nextFailure()
    await sleep(Math.random() * latencyMs)
    if (failure === 'before') return [503, { error: 'Out of order. Nothing was charged.' }]
    const known = made.get(key)
    if (known !== undefined && known.body !== body)
      return [422, { error: 'This Idempotency-Key came with another body before.' }]
    const current = known ?? { body, charge: { id: `ch_${randomUUID()}`, ...order } }
    made.set(key, current)
    if (failure === 'after') return [503, { error: 'Out of order.' }]
    return [known === undefined ? 201 : 200, current.charge]
  }

  const server = createServer(async (request, response) => {
    const respond = (status: number, answer: unknown) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(answer)}\n`)
    if (request.url !== '/charges') return respond(404, { error: 'There is /charges only.' })
    if (request.method === 'GET') return respond(200, charges())
    if (request.method !== 'POST') return respond(405, { error: 'GET or POST.' })
    const key = request.headers['idempotency-key']
    respond(...(await charge(typeof key === 'string' ? key : undefined, await text(request))))
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    charges,
    failNext: (failure) => planned.push(failure),
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/**
 * Options as the environment has them: `LATENCY_MS`, `FAILURE_RATE`, and `FAILURES`, as in `after,before`.
 *
 * @throws {TypeError} naming the variable that cannot be read.
 */
export function sandboxOptionsFrom(env: NodeJS.ProcessEnv): Omit<SandboxOptions, 'port'> {
  const options: SandboxOptions = {}
  if (env.LATENCY_MS) options.latencyMs = numberIn(env, 'LATENCY_MS', 60_000)
  if (env.FAILURE_RATE) options.failureRate = numberIn(env, 'FAILURE_RATE', 1)
  if (env.FAILURES) options.failures = env.FAILURES.split(',').map(failureOf)
  return options
}

/** @throws {TypeError} unless the variable is a number from 0 to `most`. */
export function numberIn(env: NodeJS.ProcessEnv, name: string, most: number): number {
  const value = Number(env[name])
  if (value >= 0 && value <= most) return value
  throw new TypeError(`${name} must be a number from 0 to ${most}, received "${env[name]}".`)
}

function failureOf(word: string): Failure {
  if (word === 'before' || word === 'after') return word
  throw new TypeError(`FAILURES must be a list of "before" and "after", received "${word}".`)
}

function orderIn(body: string): Omit<Charge, 'id'> | undefined {
  try {
    const { orderId, cents } = JSON.parse(body)
    return Number.isInteger(orderId) && Number.isInteger(cents) && cents > 0 ? { orderId, cents } : undefined
  } catch {
    return undefined
  }
}
