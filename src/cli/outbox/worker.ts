/** `throughline worker <file>`: works an outbox off in a process of its own, until it is asked to end. */
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type ProxyTracerProvider, trace } from '@opentelemetry/api'
import { Command, InvalidArgumentError } from 'commander'
import { ThroughlineError } from '../../errors.js'
import { formatDuration } from '../terminal/durations.js'
import { printable } from '../terminal/printable.js'

/** What the file exports as its default. */
interface Stoppable {
  stop(): Promise<void>
}

interface WorkerOptions {
  drainTimeout: number
  serviceName?: string
}

const DEFAULT_DRAIN_SECONDS = 30

const HELP = `
The file exports a running worker, a promise of one, or a function that starts it:

  // worker.ts, with your outbox imported
  export default outbox.work({ 'email.receipt': async (payload, { complete }) => { … } })

Spans and log lines go where those of the app go (OTEL_EXPORTER_OTLP_ENDPOINT, else .throughline/). On SIGTERM or
SIGINT it takes no more messages, waits for those it handles, and ends; a second one ends it at once. What was not done in
time is tried again by another worker. A TypeScript file needs Node 22.18 or later, or a loader: NODE_OPTIONS="--import tsx".

Examples:
  $ throughline worker ./worker.ts
  $ throughline worker ./worker.ts --drain-timeout 120     for handlers that take up to two minutes
  $ THROUGHLINE_LOG_LEVEL=warn throughline worker ./dist/worker.js

Exit status: 0 ended as asked, 1 failed or not done in time, 2 usage.`

/** The command. It sets `process.exitCode`, and ends the process. */
export function workerCommand(): Command {
  return new Command('worker')
    .description('work an outbox off in a process of its own')
    .argument('<file>', 'the module that starts the worker', fileArgument)
    .option(
      '--drain-timeout <seconds>',
      `longest wait at the end for handlers that run (default: ${DEFAULT_DRAIN_SECONDS})`,
      secondsArgument,
      DEFAULT_DRAIN_SECONDS,
    )
    .option(
      '--service-name <name>',
      'on its spans and log lines (default: OTEL_SERVICE_NAME, else the package here and -worker)',
      nameArgument,
    )
    .addHelpText('after', HELP)
    .action(worker)
}

async function worker(file: string, { drainTimeout, serviceName }: WorkerOptions): Promise<void> {
  // The standard variable, which all that sets up telemetry reads.
  process.env.OTEL_SERVICE_NAME = serviceName ?? (process.env.OTEL_SERVICE_NAME || defaultServiceName())
  // By the package's own name: nothing in src/ imports what sets up an SDK.
  const entry = 'throughline/instrumentation'
  const { register } = (await import(entry)) as { register(): Promise<void> }
  await register()
  const started = await startedBy(file)
  say(`working: ${file}. Ctrl-C ends it.`)
  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    // Kept: where nobody else listens, the flush at a signal ends the process.
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => resolve(name))
  })
  // Asked twice, it ends at once.
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => process.exit(1))
  const beganMs = performance.now()
  say(`${signal}: waiting for handlers that run, up to ${drainTimeout} s.`)
  const isDone = await withinSeconds(drainTimeout, () => started.stop())
  say(
    isDone
      ? `ended after ${formatDuration(performance.now() - beganMs)}.`
      : 'some handlers were not done in time: their messages are tried again.',
  )
  await withinSeconds(5, flush)
  process.exit(isDone ? 0 : 1)
}

async function startedBy(file: string): Promise<Stoppable> {
  const { default: exported } = await importFile(file)
  const started = await (typeof exported === 'function' ? exported() : exported)
  if (typeof (started as Partial<Stoppable> | undefined)?.stop === 'function') return started as Stoppable
  throw new ThroughlineError('WORKER_UNUSABLE', `${file} exports no worker.`, {
    why: 'Its default export is none, nor a promise of one or a function that starts one.',
    fix: 'Export one as the default: export default outbox.work({ … }).',
  })
}

async function importFile(file: string): Promise<{ default?: unknown }> {
  try {
    return await import(pathToFileURL(file).href)
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'ERR_UNKNOWN_FILE_EXTENSION') throw cause
    throw new ThroughlineError('WORKER_UNUSABLE', `${file} is not run by Node ${process.versions.node}.`, {
      why: 'It, or a file that it imports, is TypeScript, which Node runs from 22.18 on.',
      fix: 'Use a later Node, compile the file, or name a loader: NODE_OPTIONS="--import tsx" npx throughline worker …',
      cause,
    })
  }
}

/** `shop-worker` in the folder of the package `shop`. */
function defaultServiceName(): string {
  try {
    const { name } = JSON.parse(readFileSync('package.json', 'utf8')) as { name?: unknown }
    return typeof name === 'string' && name !== '' ? `${name}-worker` : 'worker'
  } catch {
    return 'worker'
  }
}

async function withinSeconds(seconds: number, run: () => Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), seconds * 1000)
  })
  const done = await Promise.race([run().then(() => true), late])
  clearTimeout(timer)
  return done
}

async function flush(): Promise<void> {
  const provider = (trace.getTracerProvider() as ProxyTracerProvider).getDelegate?.() as
    | { forceFlush?(): Promise<void> }
    | undefined
  await provider?.forceFlush?.()
}

function say(text: string): void {
  process.stderr.write(`throughline worker: ${printable(text)}\n`)
}

function fileArgument(value: string): string {
  const file = resolve(value)
  if (existsSync(file)) return file
  throw new InvalidArgumentError(`There is no file ${printable(value)}.`)
}

function nameArgument(value: string): string {
  if (value.trim() !== '') return value.trim()
  throw new InvalidArgumentError('A name has at least one character.')
}

function secondsArgument(value: string): number {
  const seconds = Number(value)
  if (value.trim() !== '' && seconds >= 0 && seconds <= 86_400) return seconds
  throw new InvalidArgumentError('It is a number of seconds from 0 to 86400.')
}
