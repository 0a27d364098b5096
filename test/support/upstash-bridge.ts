/**
 * Upstash's REST interface in front of a real Redis: what of it the clients use, and nothing of its own.
 * `POST /` takes one command as a JSON list, `POST /pipeline` a list of them, and
 * `POST /multi-exec` a list to run as one.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Redis } from 'ioredis'

export interface UpstashBridge {
  url: string
  token: string
  /** Commands received so far, as names. */
  commands: string[]
  /** Headers of the requests received so far. */
  headers: IncomingMessage['headers'][]
  stop(): Promise<void>
}

/** Upstash's own; Redis knows no such flag and refuses the script. */
const FLAGS = '#!lua flags=allow-key-locking\n'

export async function startUpstashBridge(redisUrl: string): Promise<UpstashBridge> {
  const redis = new Redis(redisUrl)
  const token = 'bridge-token'
  const commands: string[] = []
  const headers: IncomingMessage['headers'][] = []
  // The name that the client gives a script, to the name of the same without the flags.
  const scripts = new Map<string, string>()

  const execute = async ([name = '', ...args]: string[]) => {
    commands.push(name.toUpperCase())
    if (/^eval$/i.test(name) && args[0]?.startsWith(FLAGS)) {
      const stripped = args[0].slice(FLAGS.length)
      scripts.set(sha1(args[0]), sha1(stripped))
      args[0] = stripped
    }
    if (/^evalsha$/i.test(name)) args[0] = scripts.get(args[0] ?? '') ?? args[0] ?? ''
    try {
      return { result: await redis.call(name, ...args) }
    } catch (error) {
      return { error: (error as Error).message }
    }
  }

  const executeAtOnce = async (list: unknown[][]) => {
    const transaction = redis.multi()
    for (const [name, ...args] of list) {
      commands.push(String(name).toUpperCase())
      transaction.call(String(name), ...args.map(String))
    }
    const replies = (await transaction.exec()) ?? []
    return replies.map(([error, result]) => (error === null ? { result } : { error: error.message }))
  }

  const server = createServer(async (request, response) => {
    headers.push(request.headers)
    const body = JSON.parse(await textOf(request))
    const isAllowed = request.headers.authorization === `Bearer ${token}`
    const base64 = request.headers['upstash-encoding'] === 'base64'
    const answers = !isAllowed
      ? { error: 'Unauthorized' }
      : request.url === '/pipeline'
        ? await Promise.all(body.map((command: unknown[]) => execute(command.map(String))))
        : request.url === '/multi-exec'
          ? await executeAtOnce(body)
          : await execute(body.map(String))
    const status = isAllowed ? ('error' in answers ? 400 : 200) : 401
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(base64 ? encoded(answers) : answers))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    token,
    commands,
    headers,
    async stop() {
      redis.disconnect()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

// As Upstash does it: every text but OK is base64 when the client asks for it.
function encoded(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(encoded)
  if (typeof answer === 'string') return answer === 'OK' ? answer : Buffer.from(answer).toString('base64')
  if (typeof answer !== 'object' || answer === null) return answer
  if ('error' in answer) return answer
  return Object.fromEntries(Object.entries(answer).map(([name, value]) => [name, encoded(value)]))
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex')
}
