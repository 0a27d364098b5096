/** One request to a store of logs, and what is told when it fails: never a password, never more than a line. */
import { ThroughlineError } from '../../errors.js'

export interface Server {
  /** `Loki`, `ClickHouse` */
  name: string
  /** Without user and password. */
  url: URL
  /** Of the `Authorization` header; undefined without a user. */
  authorization: string | undefined
  /** What must not be shown. */
  secrets: readonly string[]
}

/** Without a word for so long, a server is taken for dead. */
const SILENCE_MS = 30_000

/** Characters of a server's message that are shown. */
const MESSAGE_LENGTH = 300

/** @throws {ThroughlineError} `SOURCE_INVALID` */
export function serverOf(name: string, address: URL, protocol: 'http:' | 'https:'): Server {
  const [user, password] = [decoded(address.username), decoded(address.password)]
  const url = new URL(`${protocol}//${address.host}${address.pathname}`)
  return {
    name,
    url,
    // In base64, nothing that it holds can end the header.
    authorization:
      user === '' && password === ''
        ? undefined
        : `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
    secrets: [password, address.password].filter((secret) => secret !== ''),
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new ThroughlineError('SOURCE_INVALID', 'The address of the logs cannot be read.', {
      why: 'A % in its user or password begins no character.',
      fix: 'Write a % as %25.',
    })
  }
}

/** What a server sends, as it comes. */
export interface Answer {
  /** Texts of any length. */
  chunks(): AsyncGenerator<string>
  /** Gives up what has not come. */
  close(): void
}

/**
 * Posts, and waits for the status.
 *
 * @throws {ThroughlineError} `SOURCE_UNREACHABLE`, also from `chunks()`; `SOURCE_REFUSED` for a status that is no success
 */
export async function post(
  server: Server,
  url: URL,
  body: string | URLSearchParams,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const patience = patienceOf(SILENCE_MS)
  const response = await orUnreachable(server, patience, () =>
    fetch(url, {
      method: 'POST',
      body,
      headers: { ...headers, ...(server.authorization && { authorization: server.authorization }) },
      redirect: 'error',
      signal: patience.signal,
    }),
  )
  const answer = answerOf(server, response, patience)
  if (response.ok) return answer
  let message = ''
  for await (const chunk of answer.chunks()) {
    message += chunk
    if (message.length > MESSAGE_LENGTH) break
  }
  throw refused(server, message, response.status)
}

/** @param status of HTTP; absent when the answer began well */
export function refused(server: Server, message: string, status?: number): ThroughlineError {
  const isLogin = status === 401 || status === 403
  const said = shownMessage(server, message)
  return new ThroughlineError(
    'SOURCE_REFUSED',
    `${server.name} at ${server.url.host} refuses the question.`,
    {
      why: `It says${status === undefined ? '' : ` (HTTP ${status})`}: ${said === '' ? 'nothing' : said}${/[.!?]$/.test(said) ? '' : '.'}`,
      fix: isLogin
        ? 'Look at the user and the password in the address.'
        : 'Look at the address, and at what it says in the server’s own log.',
    },
  )
}

/** On one line, short, without anything that a terminal obeys. */
function shownMessage({ secrets }: Server, message: string): string {
  let shown = message
  for (const secret of secrets) shown = shown.replaceAll(secret, '***')
  shown = shown.replace(/[\p{C}\p{Z}]+/gu, ' ').trim()
  return shown.length > MESSAGE_LENGTH ? `${shown.slice(0, MESSAGE_LENGTH)}…` : shown
}

interface Patience {
  signal: AbortSignal
  /** It has said something. */
  renew(): void
  end(): void
}

function patienceOf(silenceMs: number): Patience {
  const controller = new AbortController()
  const giveUp = () => controller.abort(new Error(`It said nothing for ${silenceMs / 1_000} s`))
  let timer = setTimeout(giveUp, silenceMs)
  return {
    signal: controller.signal,
    renew() {
      clearTimeout(timer)
      timer = setTimeout(giveUp, silenceMs)
    },
    end() {
      clearTimeout(timer)
      controller.abort()
    },
  }
}

function answerOf(server: Server, response: Response, patience: Patience): Answer {
  return {
    async *chunks() {
      const reader = response.body?.getReader()
      const decoder = new TextDecoder()
      try {
        while (reader !== undefined) {
          const { value, done } = await orUnreachable(server, patience, () => reader.read())
          if (done) break
          yield decoder.decode(value, { stream: true })
        }
        yield decoder.decode()
      } finally {
        patience.end()
      }
    },
    close: () => patience.end(),
  }
}

async function orUnreachable<T>(server: Server, patience: Patience, wait: () => Promise<T>): Promise<T> {
  try {
    patience.renew()
    return await wait()
  } catch (error) {
    patience.end()
    throw new ThroughlineError(
      'SOURCE_UNREACHABLE',
      `${server.name} at ${server.url.host} does not answer.`,
      {
        why: `${shownMessage(server, reasonOf(error))}.`,
        fix: 'Look whether it runs, and whether the address is right.',
        cause: error,
      },
    )
  }
}

// `fetch failed` says nothing: what failed is below it, and for a name with two addresses below that.
function reasonOf(error: unknown): string {
  const { message, cause, errors } = error as { message?: string; cause?: unknown; errors?: unknown[] }
  if (cause !== undefined) return reasonOf(cause)
  if (errors?.[0] !== undefined) return reasonOf(errors[0])
  return message || 'It broke off'
}
