/** Keeps a number of requests in flight for a number of seconds. */
import { accessSync, constants } from 'node:fs'
import { Agent, get } from 'node:http'
import { delimiter, join } from 'node:path'
import { percentile } from '../benchmark.ts'
import { run } from '../processes.ts'

export interface Load {
  requests: number
  requestsPerSecond: number
  p50Ms: number
  p99Ms: number
  /** Answers outside 2xx and 3xx, refused or broken connections, time-outs. */
  errors: number
}

export interface LoadGenerator {
  name: string
  run(url: string, options: { seconds: number; connections: number }): Promise<Load>
}

/** `wrk` when it is on the PATH: it takes least from the machine it shares with the server. */
export function chooseLoadGenerator(): LoadGenerator {
  return isOnPath('wrk') ? wrk : nodeLoop
}

const wrk: LoadGenerator = {
  name: 'wrk',
  async run(url, { seconds, connections }) {
    const text = await run('wrk', [
      '-t1',
      `-c${connections}`,
      `-d${seconds}s`,
      '--timeout',
      '10s',
      '--latency',
      url,
    ])
    const [, requests] = mustMatch(text, /(\d+) requests in/)
    const [, requestsPerSecond] = mustMatch(text, /Requests\/sec:\s+([\d.]+)/)
    const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0)
    const broken =
      /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text)?.slice(1) ?? []
    return {
      requests: Number(requests),
      requestsPerSecond: Number(requestsPerSecond),
      p50Ms: latency(text, 50),
      p99Ms: latency(text, 99),
      errors: broken.reduce((sum, count) => sum + Number(count), refused),
    }
  },
}

const MILLISECONDS: Record<string, number> = { us: 0.001, ms: 1, s: 1000, m: 60_000 }

function latency(text: string, percentile: number): number {
  const [, value, unit = ''] = mustMatch(text, new RegExp(`\\b${percentile}%\\s+([\\d.]+)(us|ms|s|m)\\b`))
  return Number(value) * (MILLISECONDS[unit] ?? Number.NaN)
}

function mustMatch(text: string, pattern: RegExp): RegExpExecArray {
  const match = pattern.exec(text)
  if (match === null) throw new Error(`wrk did not print ${pattern}:\n${text}`)
  return match
}

const nodeLoop: LoadGenerator = {
  name: 'node:http',
  async run(url, { seconds, connections }) {
    const agent = new Agent({ keepAlive: true, maxSockets: connections })
    const latencies: number[] = []
    let errors = 0
    const startedAt = performance.now()
    const worker = async () => {
      while (performance.now() - startedAt < seconds * 1000) {
        const sentAt = performance.now()
        if (!(await isAnswered(url, agent))) errors += 1
        latencies.push(performance.now() - sentAt)
      }
    }
    await Promise.all(Array.from({ length: connections }, worker))
    const elapsedSeconds = (performance.now() - startedAt) / 1000
    agent.destroy()
    latencies.sort((a, b) => a - b)
    return {
      requests: latencies.length,
      requestsPerSecond: latencies.length / elapsedSeconds,
      p50Ms: percentile(latencies, 0.5),
      p99Ms: percentile(latencies, 0.99),
      errors,
    }
  },
}

function isAnswered(url: string, agent: Agent): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(url, { agent, timeout: 10_000 }, (response) => {
      response.resume()
      response.once('end', () => resolve((response.statusCode ?? 500) < 400))
      response.once('error', () => resolve(false))
    })
    request.once('timeout', () => request.destroy(new Error('No answer within 10 s.')))
    request.once('error', () => resolve(false))
  })
}

function isOnPath(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}
