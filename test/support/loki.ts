/** A real Loki: `LOKI_URL` (`http://host:3100`), else the program at `LOKI_PATH`, else `loki` from the PATH. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './eventually.ts'
import { freePort } from './free-port.ts'
import { requireOrSkip } from './required.ts'

export interface LokiServer {
  /** `http://127.0.0.1:3100` */
  url: string
  stop(): Promise<void>
}

/** Its module cannot be installed by name: it replaces others. */
const BUILD =
  'see test/README.md, "Loki", for how to build it with Go (about ten minutes), and set LOKI_PATH to the program'

export interface LokiOptions {
  /** Ask each request for a tenant. */
  hasTenants?: boolean
  /** The most lines of one answer. */
  maxLines?: number
}

/** A server, or undefined when there is none: the reason has been printed, skip then. `LOKI_URL` has no options. */
export async function startLoki(options: LokiOptions = {}): Promise<LokiServer | undefined> {
  if (process.env.LOKI_URL && Object.keys(options).length === 0)
    return { url: process.env.LOKI_URL, stop: async () => {} }
  const program = process.env.LOKI_PATH ?? 'loki'
  if (spawnSync(program, ['-version'], { stdio: 'ignore' }).status !== 0) {
    requireOrSkip('loki', BUILD)
    return undefined
  }
  const folder = mkdtempSync(join(tmpdir(), 'throughline-loki-'))
  const [port, grpcPort] = [await freePort(), await freePort()]
  const file = join(folder, 'loki.json')
  writeFileSync(file, JSON.stringify(configuration(folder, port, grpcPort, options)))
  const child = spawn(program, [`-config.file=${file}`], { stdio: 'ignore' })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const exited = once(child, 'exit')
  const url = `http://127.0.0.1:${port}`
  await eventually(async () => {
    const response = await fetch(`${url}/ready`)
    if (!response.ok) throw new Error(await response.text())
  }, 50_000)
  return {
    url,
    async stop() {
      process.off('exit', kill)
      // A test's lines are worth no flush.
      child.kill('SIGKILL')
      await exited
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** YAML has JSON in it. */
function configuration(folder: string, port: number, grpcPort: number, options: LokiOptions) {
  return {
    auth_enabled: options.hasTenants ?? false,
    server: {
      http_listen_address: '127.0.0.1',
      http_listen_port: port,
      grpc_listen_address: '127.0.0.1',
      grpc_listen_port: grpcPort,
      log_level: 'error',
    },
    common: {
      instance_addr: '127.0.0.1',
      path_prefix: folder,
      replication_factor: 1,
      ring: { kvstore: { store: 'inmemory' } },
      storage: {
        filesystem: {
          chunks_directory: join(folder, 'chunks'),
          rules_directory: join(folder, 'rules'),
        },
      },
    },
    ingester: { lifecycler: { min_ready_duration: '0s' } },
    schema_config: {
      configs: [
        {
          from: '2020-10-24',
          store: 'tsdb',
          object_store: 'filesystem',
          schema: 'v13',
          index: { prefix: 'index_', period: '24h' },
        },
      ],
    },
    limits_config: {
      // Tests ask more than people do, and of any time.
      split_queries_by_interval: 0,
      reject_old_samples: false,
      ingestion_rate_mb: 1_000,
      ingestion_burst_size_mb: 1_000,
      per_stream_rate_limit: '1GB',
      per_stream_rate_limit_burst: '1GB',
      max_entries_limit_per_query: options.maxLines ?? 5_000,
    },
    analytics: { reporting_enabled: false },
  }
}
