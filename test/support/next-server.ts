/** Builds and runs a real Next app on a free port, and reads back what it wrote. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mustRun } from './command.ts'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'

/** A finished span, flattened from OTLP/JSON. */
export interface RecordedSpan {
  name: string
  scope: string
  traceId: string
  spanId: string
  parentSpanId: string
  startMs: number
  endMs: number
  attributes: Record<string, unknown>
  events: string[]
  links: { traceId: string; spanId: string }[]
  resource: Record<string, unknown>
}

export type LogLine = Record<string, unknown>

export interface NextServer {
  url: string
  /** Where it writes spans and log lines. */
  directory: string
  process: ChildProcess
  /** Everything the server printed so far. */
  output(): string
  spans(): Promise<RecordedSpan[]>
  /** Log lines, from the local files. */
  logs(): Promise<LogLine[]>
  /** Asks the server to end, and waits for it. What it wrote can still be read. */
  end(): Promise<void>
  /** Ends it and removes what it wrote. */
  stop(): Promise<void>
}

const BASE_ENV = { NEXT_TELEMETRY_DISABLED: '1', OTEL_BSP_SCHEDULE_DELAY: '100' }

/** Runs `next build` in the app's directory. */
export async function buildApp(
  directory: string,
  { flags = [], env = {} }: { flags?: string[]; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const { stdout, stderr } = await mustRun(process.execPath, [nextProgram(directory), 'build', ...flags], {
    cwd: directory,
    env: { ...process.env, NODE_ENV: undefined, ...BASE_ENV, ...env },
  })
  return stdout + stderr
}

/** Starts `next start`, `next dev` or what `output: 'standalone'` built, and waits until it answers. */
export async function startApp(
  directory: string,
  mode: 'start' | 'dev' | 'standalone',
  { flags = [], env = {}, warmUpPath }: { flags?: string[]; env?: NodeJS.ProcessEnv; warmUpPath: string },
): Promise<NextServer> {
  const port = await freePort()
  const outDirectory = await mkdtemp(join(tmpdir(), 'throughline-out-'))
  const program =
    mode === 'standalone'
      ? [await standaloneProgram(directory, env.DIST_DIR ?? '.next', outDirectory)]
      : [nextProgram(directory), mode, '--port', String(port), '--hostname', '127.0.0.1']
  const child = spawn(process.execPath, [...program, ...flags], {
    cwd: directory,
    env: {
      ...process.env,
      NODE_ENV: undefined,
      ...BASE_ENV,
      THROUGHLINE_DIR: outDirectory,
      // What the standalone server reads instead of flags.
      ...{ PORT: String(port), HOSTNAME: '127.0.0.1' },
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const end = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await closed
  }
  const url = `http://127.0.0.1:${port}`
  try {
    await eventually(async () => {
      if (child.exitCode !== null) throw new Error(`next ${mode} ended:\n${output}`)
      const answer = await fetch(url + warmUpPath)
      await answer.arrayBuffer()
      if (answer.status >= 500) throw new Error(`${answer.status} while starting:\n${output}`)
    }, 60_000)
  } catch (error) {
    await end()
    throw error
  }
  return {
    url,
    directory: outDirectory,
    process: child,
    output: () => output,
    spans: () => readSpans(outDirectory),
    logs: () => readLines(join(outDirectory, 'logs')),
    end,
    async stop() {
      await end()
      await rm(outDirectory, { recursive: true, force: true })
    },
  }
}

/** Moves what `output: 'standalone'` built to where it finds nothing of the app, as a container would have it. */
async function standaloneProgram(app: string, distDirectory: string, to: string): Promise<string> {
  const server = join(to, 'standalone')
  await rename(join(app, distDirectory, 'standalone'), server)
  return join(server, 'server.js')
}

/** Next's command, wherever the app's packages are. */
function nextProgram(directory: string): string {
  return createRequire(join(directory, 'package.json')).resolve('next/dist/bin/next')
}

/** Reads every span below `<directory>/traces`, without the package's own reader. */
async function readSpans(directory: string): Promise<RecordedSpan[]> {
  type KeyValue = { key: string; value: Record<string, unknown> }
  const flatten = (pairs: KeyValue[] = []) =>
    Object.fromEntries(pairs.map(({ key, value }) => [key, Object.values(value)[0]]))
  const spans: RecordedSpan[] = []
  for (const batch of await readLines(join(directory, 'traces'))) {
    // biome-ignore lint/suspicious/noExplicitAny: OTLP/JSON as it was written
    for (const resourceSpans of (batch as any).resourceSpans) {
      for (const { scope, spans: scopeSpans } of resourceSpans.scopeSpans) {
        for (const span of scopeSpans) {
          spans.push({
            name: span.name,
            scope: scope.name,
            traceId: span.traceId,
            spanId: span.spanId,
            parentSpanId: span.parentSpanId ?? '',
            startMs: Number(span.startTimeUnixNano) / 1e6,
            endMs: Number(span.endTimeUnixNano) / 1e6,
            attributes: flatten(span.attributes),
            events: (span.events ?? []).map((event: { name: string }) => event.name),
            links: (span.links ?? []).map((link: { traceId: string; spanId: string }) => ({
              traceId: link.traceId,
              spanId: link.spanId,
            })),
            resource: flatten(resourceSpans.resource.attributes),
          })
        }
      }
    }
  }
  return spans
}

async function readLines(directory: string): Promise<LogLine[]> {
  const lines: LogLine[] = []
  const names = await readdir(directory).catch(() => [])
  for (const name of names.sort()) {
    const text = await readFile(join(directory, name), 'utf8')
    for (const line of text.split('\n')) if (line !== '') lines.push(JSON.parse(line))
  }
  return lines
}
