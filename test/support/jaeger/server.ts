/** A real Jaeger: `JAEGER_URL`, else `jaeger` from the PATH, else what `install.sh` made. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from '../eventually.ts'
import { freePort } from '../free-port.ts'
import { requireOrSkip } from '../required.ts'

export interface JaegerServer {
  /** Of its page and its API: `http://127.0.0.1:16686` */
  url: string
  /** Where spans are sent: the value of `OTEL_EXPORTER_OTLP_ENDPOINT`, for `http/protobuf`. */
  otlpUrl: string
  stop(): Promise<void>
}

const INSTALL = fileURLToPath(new URL('install.sh', import.meta.url))

/** As `install.sh` names it. */
const INSTALLED = join(
  process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'),
  'throughline/jaeger-v1.76.0/jaeger',
)

/**
 * A server, or undefined when there is none: the reason has been printed, skip then. Of `JAEGER_URL` the OTLP endpoint
 * is `JAEGER_OTLP_URL`, or port 4318 of the same host.
 */
export async function startJaeger(): Promise<JaegerServer | undefined> {
  const { JAEGER_URL: given, JAEGER_OTLP_URL: givenOtlp } = process.env
  if (given) {
    const otlpUrl = givenOtlp ?? Object.assign(new URL(given), { port: '4318', pathname: '' }).origin
    return { url: given, otlpUrl, stop: async () => {} }
  }
  const program = [
    ...(isOnPath('jaeger') ? ['jaeger'] : []),
    ...(existsSync(INSTALLED) ? [INSTALLED] : []),
  ][0]
  if (program === undefined) {
    requireOrSkip('jaeger', INSTALL)
    return undefined
  }
  const folder = mkdtempSync(join(tmpdir(), 'throughline-jaeger-'))
  const [queryPort, grpcPort, otlpPort] = [await freePort(), await freePort(), await freePort()]
  const file = join(folder, 'jaeger.yaml')
  writeFileSync(file, JSON.stringify(configuration(queryPort, grpcPort, otlpPort)))
  const child = spawn(program, ['--config', file], { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const exited = once(child, 'exit')
  const url = `http://127.0.0.1:${queryPort}`
  await eventually(async () => {
    const response = await fetch(`${url}/api/v3/services`)
    if (!response.ok) throw new Error(await response.text())
  }, 30_000)
  return {
    url,
    otlpUrl: `http://127.0.0.1:${otlpPort}`,
    async stop() {
      process.off('exit', kill)
      kill()
      await exited
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function isOnPath(program: string): boolean {
  return spawnSync(program, ['version'], { stdio: 'ignore' }).error === undefined
}

/** All in memory, on loopback. YAML has JSON in it. */
function configuration(queryPort: number, grpcPort: number, otlpPort: number) {
  return {
    service: {
      extensions: ['jaeger_storage', 'jaeger_query'],
      pipelines: {
        traces: { receivers: ['otlp'], processors: [], exporters: ['jaeger_storage_exporter'] },
      },
      telemetry: { metrics: { level: 'none' }, logs: { level: 'error' } },
    },
    extensions: {
      jaeger_storage: { backends: { memory: { memory: { max_traces: 200_000 } } } },
      jaeger_query: {
        storage: { traces: 'memory' },
        http: { endpoint: `127.0.0.1:${queryPort}` },
        grpc: { endpoint: `127.0.0.1:${grpcPort}` },
      },
    },
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${otlpPort}` } } } },
    exporters: { jaeger_storage_exporter: { trace_storage: 'memory' } },
  }
}
