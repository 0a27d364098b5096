/** What the built package offers: its paths, the names behind each, and what importing them does not load. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { mustRun } from '../support/command.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

/** An entry of `exports`: a file, or a file per condition. */
type Target = string | { [condition: string]: string }
const { exports, bin } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as {
  exports: Record<string, Target>
  bin: Record<string, string>
}

/** The paths of DESIGN, "Names that others rely on", each with the source that it is built from. */
const DESIGNED: Record<string, string> = {
  '.': 'src/index.ts',
  './instrumentation': 'instrumentation/index.ts',
  './next': 'src/next/index.ts',
  './logging': 'src/logging/index.ts',
  './idempotency': 'src/idempotency/index.ts',
  './idempotency/memory': 'src/idempotency/stores/memory.ts',
  './idempotency/redis': 'src/idempotency/stores/redis.ts',
  './idempotency/upstash': 'src/idempotency/stores/upstash.ts',
  './idempotency/postgres': 'src/idempotency/stores/postgres.ts',
  './idempotency/hybrid': 'src/idempotency/stores/hybrid.ts',
  './transaction': 'src/postgres/transaction.ts',
  './clients/pg': 'src/clients/database/pg.ts',
  './clients/postgres': 'src/clients/database/postgres.ts',
  './clients/neon': 'src/clients/database/neon.ts',
  './clients/mysql2': 'src/clients/database/mysql2.ts',
  './clients/better-sqlite3': 'src/clients/database/better-sqlite3.ts',
  './clients/prisma': 'src/clients/database/prisma.ts',
  './clients/pglite': 'src/clients/database/pglite.ts',
  './clients/ioredis': 'src/clients/kv/ioredis.ts',
  './clients/redis': 'src/clients/kv/node-redis.ts',
  './clients/upstash': 'src/clients/kv/upstash.ts',
  './outbox': 'src/outbox/index.ts',
  './react': 'src/react/index.ts',
  './browser': 'src/browser/index.ts',
  './testing': 'src/testing/index.ts',
}

describe('the paths of the package', () => {
  it('are those of the design, as far as they are built', () => {
    const built = Object.keys(DESIGNED).filter((path) => existsSync(join(REPOSITORY, DESIGNED[path] ?? '')))
    expect(Object.keys(exports).sort()).toEqual([...built, './package.json'].sort())
  })

  it('lead to files that exist, and to types beside each', () => {
    const targets = Object.values(exports).flatMap((target) =>
      typeof target === 'string' ? [target] : Object.values(target),
    )
    const missing = [...targets, ...Object.values(bin)].filter((file) => !existsSync(join(REPOSITORY, file)))
    expect(missing).toEqual([])
    for (const [path, target] of Object.entries(exports)) {
      if (typeof target === 'string') continue
      const { types, default: main } = target
      expect([path, types]).toEqual([path, main?.replace(/\.js$/, '.d.ts')])
      // Node takes the first condition that fits.
      expect(Object.keys(target).at(0)).toBe('types')
      expect(Object.keys(target).at(-1)).toBe('default')
    }
  })

  it('are built from sources that exist', () => {
    const built = readdirSync(join(REPOSITORY, 'dist'), { recursive: true, encoding: 'utf8' })
    const orphans = built
      .filter((file) => file.endsWith('.js'))
      .filter(
        (file) =>
          !['.ts', '.tsx'].some((ending) => existsSync(join(REPOSITORY, file.replace(/\.js$/, ending)))),
      )
    expect(orphans).toEqual([])
  })
})

describe('the names behind the paths', () => {
  it('are these, and no others', async () => {
    const { stdout } = await evaluate(`
      const names = {}
      for (const path of ${JSON.stringify(Object.keys(exports))}) {
        if (path === './package.json') continue
        names[path] = Object.keys(await import('throughline' + path.slice(1))).sort()
      }
      console.log(JSON.stringify(names))
    `)
    expect(JSON.parse(stdout)).toMatchInlineSnapshot(`
      {
        ".": [
          "DEFAULT_CORRELATION_HEADER",
          "ThroughlineError",
          "getContext",
          "getCorrelationId",
          "isCorrelationId",
          "isThroughlineError",
          "runWithCorrelation",
          "tryGetContext",
        ],
        "./clients/better-sqlite3": [
          "instrumentBetterSqlite3",
        ],
        "./clients/ioredis": [
          "instrumentIoredis",
        ],
        "./clients/mysql2": [
          "instrumentMysql2",
          "wrapMysqlConnection",
          "wrapMysqlPool",
        ],
        "./clients/neon": [
          "instrumentNeon",
        ],
        "./clients/pg": [
          "instrumentPg",
          "wrapPgClient",
          "wrapPgPool",
        ],
        "./clients/pglite": [
          "instrumentPglite",
        ],
        "./clients/postgres": [
          "instrumentPostgres",
        ],
        "./clients/prisma": [
          "requestComments",
        ],
        "./clients/redis": [
          "instrumentRedis",
        ],
        "./clients/upstash": [
          "instrumentKv",
        ],
        "./idempotency": [
          "DEFAULT_MAX_RESULT_BYTES",
          "MAX_KEY_LENGTH",
          "TIMELINE_LENGTH",
          "fingerprintOf",
          "global",
          "identityOf",
          "runOnce",
        ],
        "./idempotency/hybrid": [
          "hybridStore",
        ],
        "./idempotency/memory": [
          "memoryStore",
        ],
        "./idempotency/postgres": [
          "DEFAULT_TABLE",
          "migrate",
          "migrationsOf",
          "postgresStore",
        ],
        "./idempotency/redis": [
          "redisStore",
        ],
        "./idempotency/upstash": [
          "upstashStore",
        ],
        "./instrumentation": [
          "correlationIdGenerator",
          "correlationPropagator",
          "correlationSpanProcessor",
          "onRequestError",
          "register",
          "throughline",
        ],
        "./logging": [
          "createLogger",
          "logger",
        ],
        "./next": [
          "action",
          "formField",
          "idempotentAction",
          "idempotentRoute",
          "withCorrelation",
          "withThroughline",
        ],
        "./outbox": [
          "createOutbox",
          "deadLetterOf",
          "defineTopics",
          "openMessages",
        ],
        "./react": [
          "IdempotencyKey",
          "SubmitButton",
          "useIdempotentAction",
        ],
        "./transaction": [
          "transaction",
        ],
      }
    `)
  })

  it('behind throughline/next are fewer on edge', async () => {
    const { stdout } = await evaluate(
      `console.log(JSON.stringify(Object.keys(await import('throughline/next'))))`,
      ['--conditions=edge-light'],
    )
    expect(JSON.parse(stdout)).toEqual(['withCorrelation'])
  })
})

describe('importing', () => {
  it.each([
    'throughline',
    'throughline/next',
    'throughline/logging',
    'throughline/idempotency',
    'throughline/idempotency/memory',
    'throughline/idempotency/redis',
    'throughline/clients/pglite',
    // What register() needs is loaded by register().
    'throughline/instrumentation',
  ])('%s loads no OpenTelemetry SDK, no driver and no React', async (path) => {
    const loaded = await packagesLoadedBy(path)
    expect(loaded.filter((name) => HEAVY.test(name))).toEqual([])
  })

  it.each([
    ['throughline', []],
    ['throughline/idempotency', ['@opentelemetry/api', 'devalue']],
    ['throughline/instrumentation', ['@opentelemetry/api']],
  ])('%s loads these packages alone: %j', async (path, packages) => {
    expect(await packagesLoadedBy(path)).toEqual(packages)
  })

  it('register() from throughline/instrumentation loads the SDK: the test would see it', async () => {
    const loaded = await packagesLoadedBy('throughline/instrumentation', 'await entry.register()')
    expect(loaded).toContain('@opentelemetry/sdk-node')
    expect(loaded.filter((name) => HEAVY.test(name))).not.toEqual([])
  })
})

const HEAVY =
  /^@opentelemetry\/(?:sdk-|exporter-|instrumentation)|^@vercel\/otel$|^(?:pg|ioredis|redis|pg-boss|react|react-dom)$/

/** The npm packages that are loaded by an import, be it static, dynamic or `require`. */
async function packagesLoadedBy(path: string, then = ''): Promise<string[]> {
  const { stdout } = await evaluate(`
    import { registerHooks } from 'node:module'
    const urls = []
    registerHooks({
      load(url, context, nextLoad) {
        urls.push(url)
        return nextLoad(url, context)
      },
    })
    const entry = await import(${JSON.stringify(path)})
    ${then}
    console.log(JSON.stringify(urls))
  `)
  const urls = stdout.split('\n').find((line) => line.startsWith('["')) ?? '[]'
  const names = (JSON.parse(urls) as string[]).flatMap((url) => {
    const [, name] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url) ?? []
    return name === undefined ? [] : [name]
  })
  return [...new Set(names)].sort()
}

/** Runs a module of its own process, in which the package can import itself by name. */
function evaluate(source: string, flags: string[] = []) {
  const { NODE_OPTIONS: _, ...env } = process.env
  return mustRun(process.execPath, [...flags, '--input-type=module', '--eval', source], {
    cwd: REPOSITORY,
    env: { ...env, OTEL_TRACES_EXPORTER: 'none' },
  })
}
