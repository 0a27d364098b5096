/** The app of this benchmark: installed once, built once per set-up, and served from each build. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { openSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from '../../test/support/eventually.ts'
import { freePort } from '../../test/support/free-port.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { startRedis } from '../../test/support/redis.ts'
import { progress } from '../benchmark.ts'
import { atEnd, run, startProcess } from '../processes.ts'

/** Each but `none` is an instrumentation file in `set-ups/`. */
export const SET_UPS = [
  'none',
  'vercel-otel',
  'sdk-node',
  'throughline',
  'throughline-no-request-log',
] as const

export interface BenchServer {
  setUp: string
  /** Ends with `/api/`. */
  url: string
  pid: number
  /** Spans that have reached the collector so far. */
  exportedSpans(): Promise<number>
}

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const HERE = import.meta.dirname
const NEXT = 'node_modules/next/dist/bin/next'

/** Installed at the versions this repository is tested with; the rivals' own are in `app/package.json`. */
const SHARED_PACKAGES = [
  'next',
  'react',
  'react-dom',
  'pg',
  'ioredis',
  '@opentelemetry/api',
  '@opentelemetry/sdk-node',
  '@opentelemetry/instrumentation-pg',
  '@vercel/otel',
]

export async function startServers(): Promise<BenchServer[]> {
  const app = await installApp()
  const env = { ...cleanEnvironment(), ...(await startDatabases()) }
  const collector = await startCollector()
  for (const setUp of SET_UPS) await build(app, setUp, env)
  const servers: BenchServer[] = []
  for (const setUp of SET_UPS) servers.push(await serve(app, setUp, env, collector))
  return servers
}

async function installApp(): Promise<string> {
  progress('packing throughline and installing the app')
  const directory = await mkdtemp(join(tmpdir(), 'throughline-bench-'))
  atEnd(() => rm(directory, { recursive: true, force: true }))
  const packed = await run('npm', ['pack', '--json', '--pack-destination', directory], { cwd: REPOSITORY })
  const [{ filename }] = Object.values(JSON.parse(packed)) as [{ filename: string }]
  const app = join(directory, 'app')
  await cp(join(HERE, 'app'), app, { recursive: true })
  const { dependencies, devDependencies } = JSON.parse(
    await readFile(join(REPOSITORY, 'package.json'), 'utf8'),
  )
  const versions: Record<string, string> = { ...devDependencies, ...dependencies }
  const packages = SHARED_PACKAGES.map((name) => `${name}@${versions[name]}`)
  const flags = ['--prefer-offline', '--no-package-lock', '--no-audit', '--no-fund']
  await run('npm', ['install', ...flags, join(directory, filename), ...packages], { cwd: app })
  return app
}

/** What the shell says about telemetry is not part of the comparison. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(?:OTEL_|THROUGHLINE_|NODE_ENV$)/.test(name))
  return { ...Object.fromEntries(kept), NEXT_TELEMETRY_DISABLED: '1' }
}

async function startDatabases(): Promise<NodeJS.ProcessEnv> {
  progress('starting Postgres and Redis')
  const starting = [startPostgres(), startRedis()] as const
  for (const server of starting) atEnd(async () => (await server)?.stop())
  const [postgres, redis] = await Promise.all(starting)
  if (redis === undefined)
    throw new Error('The realistic route needs a Redis: install redis-server, or set REDIS_URL.')
  if (postgres === undefined)
    throw new Error('The realistic route needs a Postgres: install postgresql, or set DATABASE_URL.')
  return {
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url,
    // The tests' Postgres logs every statement; here that would take CPU from the servers.
    ...(process.env.DATABASE_URL ? {} : { PGOPTIONS: '-c log_statement=none' }),
  }
}

async function startCollector(): Promise<string> {
  const child = fork(join(HERE, 'collector.ts'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  atEnd(() => child.kill())
  const [port] = await once(child, 'message')
  return `http://127.0.0.1:${port}`
}

// One folder, and a build directory per set-up: node_modules is there once, and all else is the same.
async function build(app: string, setUp: string, env: NodeJS.ProcessEnv): Promise<void> {
  progress(`building ${setUp}`)
  const instrumentation = join(app, 'instrumentation.js')
  if (setUp === 'none') await rm(instrumentation, { force: true })
  else await cp(join(HERE, 'set-ups', `${setUp}.js`), instrumentation)
  await run(process.execPath, [NEXT, 'build'], { cwd: app, env: { ...env, DIST_DIR: `.next-${setUp}` } })
}

async function serve(
  app: string,
  setUp: string,
  env: NodeJS.ProcessEnv,
  collector: string,
): Promise<BenchServer> {
  const port = await freePort()
  const output = openSync(join(app, `${setUp}.log`), 'w')
  const child = startProcess(
    process.execPath,
    [NEXT, 'start', '--port', `${port}`, '--hostname', '127.0.0.1'],
    {
      cwd: app,
      env: {
        ...env,
        DIST_DIR: `.next-${setUp}`,
        OTEL_EXPORTER_OTLP_ENDPOINT: `${collector}/${setUp}`,
        OTEL_METRICS_EXPORTER: 'none',
        OTEL_LOGS_EXPORTER: 'none',
      },
      stdio: ['ignore', output, output],
    },
  )
  const url = `http://127.0.0.1:${port}/api/`
  try {
    await eventually(async () => {
      const answer = await fetch(`${url}realistic`)
      if (!answer.ok) throw new Error(`It answers ${answer.status}.`)
    }, 30_000)
  } catch (cause) {
    throw new Error(`${setUp} did not start:\n${await readFile(join(app, `${setUp}.log`), 'utf8')}`, {
      cause,
    })
  }
  return {
    setUp,
    url,
    pid: child.pid ?? 0,
    exportedSpans: async () => Number(await (await fetch(`${collector}/spans/${setUp}`)).text()),
  }
}
