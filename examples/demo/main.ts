/**
 * `npm run demo`: builds and starts the checkout example with a payment sandbox, plays a scenario over HTTP, and
 * shows the trace of an order from the click to its charge, and of a key that was used again. Stays up until Ctrl-C;
 * `--once` ends after the scenario, with 0 when every expectation held, else 1.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import pc from 'picocolors'
import { checkJaeger, HITS_LINK, JAEGER_ENVIRONMENT, linkTo } from './jaeger.ts'
import { endAll, findOnPath, freePort, start, waitFor } from './processes.ts'
import { playScenario } from './scenario.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const EXAMPLE = join(REPOSITORY, 'examples/checkout')
const NEXT = join(REPOSITORY, 'node_modules/next/dist/bin/next')
const SANDBOX = join(EXAMPLE, 'payment-sandbox/main.ts')
const THROUGHLINE = join(REPOSITORY, 'dist/src/cli/main.js')

const USAGE = `Usage: npm run demo -- [--once] [--jaeger] [--port <number>]

  --once           end after the scenario: exit 0 when every expectation held, else 1
  --jaeger         send spans to the Jaeger of http://localhost:16686 (JAEGER_URL, OTEL_EXPORTER_OTLP_ENDPOINT), and
                   print links to them instead of the traces
  --port <number>  listen here instead of on a free port
  --help           this text

DATABASE_URL and REDIS_URL switch from the embedded database and the demo's own Redis to yours. With DATABASE_URL a
throughline worker makes the charges, in a process of its own; without, the Next server does.`

/** What the trace of a key's second use has to show. */
const REPEAT = [/request completed/, /idempotency hit/]

/** What the trace of an order has to show: the request, its SQL, both messages, and what was made of them. */
const WHOLE_ORDER = [
  /POST \/ /,
  /INSERT orders/,
  /send payment\.charge/,
  /send email\.receipt/,
  /process email\.receipt/,
  // Twice: the answer to the first charge is lost.
  /process payment\.charge.*process payment\.charge/s,
  // Next names a call of its own server by its address, the worker by its answer.
  /fetch POST http:\S+\/charges|POST +503.*POST +200/s,
]

const traceDirectory = mkdtempSync(join(tmpdir(), 'throughline-demo-'))

async function main(): Promise<number> {
  const options = readOptions()
  if (options === undefined) return 2
  if (options.help) {
    console.log(USAGE)
    return 0
  }
  const env = {
    ...process.env,
    NEXT_TELEMETRY_DISABLED: '1',
    THROUGHLINE_DIR: traceDirectory,
    OTEL_BSP_SCHEDULE_DELAY: '100',
  }
  // The demo reads its spans from local files, so a collector that the shell has set is left alone.
  delete (env as NodeJS.ProcessEnv).OTEL_EXPORTER_OTLP_ENDPOINT
  if (options.jaeger) {
    await step('Jaeger', checkJaeger)
    Object.assign(env, JAEGER_ENVIRONMENT)
  }
  const redisUrl = await step('Redis for the action written by hand', provideRedis)
  if (redisUrl === undefined) {
    console.log(
      pc.yellow('  none: install redis-server or set REDIS_URL to see it. The demo goes on without.'),
    )
  }
  await step('building the example', () => build(env))
  const paymentUrl = await step('starting the payment sandbox', () => provideSandbox(env))
  const appEnv = { ...env, REDIS_URL: redisUrl, PAYMENT_URL: paymentUrl }
  const port = options.port ?? (await freePort())
  const url = `http://127.0.0.1:${port}`
  await step('starting the example', () => serve(port, url, appEnv))
  if (process.env.DATABASE_URL) await step('starting throughline worker', () => startWorker(appEnv))

  console.log(`\n${pc.bold('The scenario')}`)
  const shop = { url, paymentUrl, hasRedis: redisUrl !== undefined }
  const findings = await playScenario(shop, ({ title, isMet, detail }) => {
    console.log(`  ${isMet ? pc.green('✓') : pc.red('✗')} ${title} ${pc.dim(`· ${detail}`)}`)
  })
  const failed = findings.checks.filter((check) => !check.isMet)
  const shown = [
    { title: 'the order, from the click to the charge', id: findings.orderId, mustShow: WHOLE_ORDER },
    { title: 'the second use of the key, under idempotentAction', id: findings.repeatId, mustShow: REPEAT },
    {
      title: 'the second use of the key, in the recipe written by hand',
      id: findings.byHandRepeatId,
      mustShow: REPEAT,
    },
  ]
  for (const { title, id, mustShow } of shown) {
    if (id === undefined) continue
    if (options.jaeger) {
      console.log(`\n${pc.bold(`The trace of ${title}`)}\n${linkTo(id)}`)
      continue
    }
    console.log(`\n${pc.bold(`The trace of ${title}`)}\n${pc.dim(`$ npx throughline trace ${id}`)}\n`)
    console.log(await readTrace(id, mustShow))
  }
  if (options.jaeger) console.log(`\n${pc.bold('All uses of a key again')}\n${HITS_LINK}\n`)
  for (const { title, detail } of failed) console.error(pc.red(`Not met: ${title}: ${detail}`))
  if (options.once) return failed.length === 0 ? 0 : 1

  console.log(`${pc.bold('Open')}     ${url}   ${pc.dim('place an order, twice')}`)
  console.log(`${pc.bold('Charges')}  ${paymentUrl}/charges`)
  if (!options.jaeger)
    console.log(
      `${pc.bold('Traces')}   THROUGHLINE_DIR=${traceDirectory} npx throughline trace <x-correlation-id>`,
    )
  console.log(pc.dim('Ctrl-C ends the demo.'))
  await untilInterrupted()
  return failed.length === 0 ? 0 : 1
}

interface DemoOptions {
  once: boolean
  jaeger: boolean
  help: boolean
  port: number | undefined
}

function readOptions(): DemoOptions | undefined {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean' },
        jaeger: { type: 'boolean' },
        help: { type: 'boolean' },
        port: { type: 'string' },
      },
    })
    const port = values.port === undefined ? undefined : Number(values.port)
    if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65_536)) {
      throw new Error(`--port must be a number from 1 to 65535, received "${values.port}".`)
    }
    const { once = false, jaeger = false, help = false } = values
    return { once, jaeger, help, port }
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`)
    return undefined
  }
}

/** `REDIS_URL`, else a `redis-server` of the demo's own, else undefined. */
async function provideRedis(): Promise<string | undefined> {
  if (process.env.REDIS_URL) return process.env.REDIS_URL
  const program = findOnPath('redis-server') ?? findOnPath('valkey-server')
  if (program === undefined) return undefined
  const port = await freePort()
  const { output } = start(program, [
    '--port',
    `${port}`,
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'no',
  ])
  await waitFor(
    'Redis',
    async () => {
      if (!output().includes('Ready to accept connections')) throw new Error('not ready')
    },
    output,
  )
  return `redis://127.0.0.1:${port}`
}

async function build(env: NodeJS.ProcessEnv): Promise<void> {
  const { ended, output } = start(process.execPath, [NEXT, 'build'], { cwd: EXAMPLE, env })
  if ((await ended) !== 0) throw new Error(`The example did not build.\n${output()}`)
}

async function serve(port: number, url: string, env: NodeJS.ProcessEnv): Promise<void> {
  const { child, output } = start(
    process.execPath,
    [NEXT, 'start', '--port', `${port}`, '--hostname', '127.0.0.1'],
    {
      cwd: EXAMPLE,
      env,
    },
  )
  await waitFor(
    'The example',
    async () => {
      if (child.exitCode !== null) throw new Error('it ended')
      const answer = await fetch(url)
      await answer.text()
      if (!answer.ok) throw new Error(`it answered ${answer.status}`)
    },
    output,
  )
}

/** A payment sandbox that loses the answer to the first charge it makes, and nothing else. */
async function provideSandbox(env: NodeJS.ProcessEnv): Promise<string> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const behaviour = { PORT: `${port}`, FAILURES: 'after', FAILURE_RATE: '0' }
  const { child, output } = start(process.execPath, [SANDBOX], { env: { ...env, ...behaviour } })
  await waitFor(
    'The payment sandbox',
    async () => {
      if (child.exitCode !== null) throw new Error('it ended')
      await (await fetch(`${url}/charges`)).text()
    },
    output,
  )
  return url
}

async function startWorker(env: NodeJS.ProcessEnv): Promise<void> {
  const { child, output } = start(process.execPath, [THROUGHLINE, 'worker', './worker.ts'], {
    cwd: EXAMPLE,
    env: { ...env, OTEL_SERVICE_NAME: 'checkout-worker' },
  })
  await waitFor(
    'The worker',
    async () => {
      if (child.exitCode !== null) throw new Error('it ended')
      if (!output().includes('working:')) throw new Error('not ready')
    },
    output,
  )
}

/** The trace as `throughline trace` prints it, once all that it has to show is written. */
async function readTrace(id: string, mustShow: RegExp[]): Promise<string> {
  let text = ''
  const args = [THROUGHLINE, 'trace', id, '--dir', traceDirectory]
  const env = { ...process.env, ...(pc.isColorSupported ? { FORCE_COLOR: '1' } : {}) }
  await waitFor(
    `The trace ${id}`,
    async () => {
      const { ended, output } = start(process.execPath, args, { env })
      await ended
      text = output()
      const missing = mustShow.find((pattern) => !pattern.test(text))
      if (missing !== undefined) throw new Error(`${missing} is not there`)
    },
    () => text,
  )
  return text
}

/** Runs a step and shows that it runs: live in a terminal, a line when piped. */
async function step<T>(title: string, run: () => Promise<T>): Promise<T> {
  const startedAt = performance.now()
  const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(1)
  const isTerminal = process.stdout.isTTY
  if (!isTerminal) console.log(`… ${title}`)
  const timer = isTerminal
    ? setInterval(() => process.stdout.write(`\r${pc.cyan('…')} ${title} ${pc.dim(`${seconds()} s`)}`), 100)
    : undefined
  try {
    const result = await run()
    console.log(`${isTerminal ? '\r' : ''}${pc.green('✓')} ${title} ${pc.dim(`${seconds()} s`)}`)
    return result
  } finally {
    clearInterval(timer)
  }
}

function untilInterrupted(): Promise<void> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve())
    process.once('SIGTERM', () => resolve())
  })
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(pc.red(error instanceof Error ? error.message : String(error)))
  process.exitCode = 1
} finally {
  await endAll()
  rmSync(traceDirectory, { recursive: true, force: true })
}
