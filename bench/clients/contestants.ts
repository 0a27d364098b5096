/** The clients, each on a local server, and the ways to instrument them. */
import { createRequire } from 'node:module'
import type { ProviderOptions } from './spans.ts'

export type ServerName = 'redis' | 'postgres' | 'mariadb'

/** One client, doing one command. */
export interface ClientCase {
  server: ServerName
  /** Loads the client and connects it: what hooks `require` is in place by then. */
  connect(url: string): Promise<Client>
  contestants: Readonly<Record<string, Contestant>>
}

export interface Client {
  command(): Promise<unknown>
  /** The statement as it reached the server. Of databases. */
  sentText?(): Promise<string>
}

export interface Contestant {
  /** Spans that one command makes. */
  spans: number
  /** Whether statements bear a comment. */
  isCommented?: boolean
  /** Default true. */
  isSampled?: boolean
  /** What its provider differs in. */
  provider?(): Promise<Omit<ProviderOptions, 'isSampled'>>
  /** Done once the provider is registered, before the client is loaded. */
  instrument?(): Promise<unknown>
}

const require = createRequire(import.meta.url)

const KEY = 'throughline:bench'

/** Without any instrumentation, in the same request. */
const bare: Contestant = { spans: 0 }

const redisContestants = { bare, ...sampledOrNot('throughline', throughline({ isCommented: false })) }

export const CASES: Readonly<Record<string, ClientCase>> = {
  'ioredis GET': {
    server: 'redis',
    async connect(url) {
      const { Redis } = require('ioredis') as typeof import('ioredis')
      const client = new Redis(url)
      await client.set(KEY, 'value')
      return { command: () => client.get(KEY) }
    },
    contestants: {
      ...redisContestants,
      ...sampledOrNot('OpenTelemetry', {
        spans: 1,
        async instrument() {
          const { IORedisInstrumentation } = await import('@opentelemetry/instrumentation-ioredis')
          return new IORedisInstrumentation()
        },
      }),
    },
  },

  // `@opentelemetry/instrumentation-redis` is for versions before 6.
  'node-redis GET': {
    server: 'redis',
    async connect(url) {
      const { createClient } = require('redis') as typeof import('redis')
      const client = await createClient({ url }).connect()
      await client.set(KEY, 'value')
      return { command: () => client.get(KEY) }
    },
    contestants: redisContestants,
  },

  'pg SELECT 1': {
    server: 'postgres',
    async connect(connectionString) {
      const { Pool } = require('pg') as typeof import('pg')
      const pool = new Pool({ connectionString })
      return {
        command: () => pool.query('SELECT 1'),
        sentText: async () => (await pool.query('SELECT current_query() AS sent')).rows[0].sent,
      }
    },
    contestants: {
      bare,
      ...databaseContestants(),
      ...sampledOrNot('OpenTelemetry', { ...openTelemetryPg({}), spans: 2 }),
      'OpenTelemetry without connect spans': openTelemetryPg({ ignoreConnectSpans: true }),
    },
  },

  'mysql2 SELECT 1': {
    server: 'mariadb',
    async connect(url) {
      const { createPool } = require('mysql2/promise') as typeof import('mysql2/promise')
      const pool = createPool(url)
      return {
        command: () => pool.query('SELECT 1'),
        async sentText() {
          const [rows] = await pool.query(
            'SELECT INFO AS sent FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()',
          )
          return (rows as { sent: string }[])[0]?.sent ?? ''
        },
      }
    },
    contestants: {
      bare,
      ...databaseContestants(),
      ...sampledOrNot('OpenTelemetry', {
        spans: 1,
        isCommented: true,
        async instrument() {
          const { MySQL2Instrumentation } = await import('@opentelemetry/instrumentation-mysql2')
          return new MySQL2Instrumentation({ addSqlCommenterCommentToQueries: true })
        },
      }),
    },
  },
}

/**
 * A module of the build that the package does not export.
 *
 * @param path from the repository's root, without its ending; give the source's type: types need no build
 */
export function built<Module>(path: string): Promise<Module> {
  return import(new URL(`../../dist/${path}.js`, import.meta.url).href)
}

function databaseContestants(): Record<string, Contestant> {
  return {
    ...sampledOrNot('throughline', throughline({ isCommented: true })),
    'throughline without comments': throughline({ isCommented: false }),
  }
}

function openTelemetryPg(config: { ignoreConnectSpans?: boolean }): Contestant {
  return {
    spans: 1,
    isCommented: true,
    async instrument() {
      const { PgInstrumentation } = await import('@opentelemetry/instrumentation-pg')
      return new PgInstrumentation({ addSqlCommenterCommentToQueries: true, ...config })
    },
  }
}

function sampledOrNot(name: string, contestant: Contestant): Record<string, Contestant> {
  return { [name]: contestant, [`${name} not sampled`]: { ...contestant, isSampled: false } }
}

/** What `register()` sets up for clients and spans (`instrumentation/node.ts`, `sdk.ts`). */
function throughline({ isCommented }: { isCommented: boolean }): Contestant {
  return {
    spans: 1,
    isCommented,
    async provider() {
      const { correlateProvider } = await built<typeof import('../../instrumentation/tracer-provider.ts')>(
        'instrumentation/tracer-provider',
      )
      const { correlationIdGenerator } =
        await built<typeof import('../../src/telemetry/sdk-pieces.ts')>('src/telemetry/sdk-pieces')
      return {
        idGenerator: correlationIdGenerator(),
        decorate: (provider) => correlateProvider(provider, { nextInternals: false }),
      }
    },
    async instrument() {
      const settings = await built<typeof import('../../src/clients/settings.ts')>('src/clients/settings')
      const hooks =
        await built<typeof import('../../src/clients/require-hooks.ts')>('src/clients/require-hooks')
      const mysql2 = await built<typeof import('../../src/clients/database/mysql2-channels.ts')>(
        'src/clients/database/mysql2-channels',
      )
      const keys = await built<typeof import('../../src/clients/kv/key-patterns.ts')>(
        'src/clients/kv/key-patterns',
      )
      const ioredis = await built<typeof import('../../src/clients/kv/ioredis-channels.ts')>(
        'src/clients/kv/ioredis-channels',
      )
      const nodeRedis = await built<typeof import('../../src/clients/kv/node-redis-channels.ts')>(
        'src/clients/kv/node-redis-channels',
      )
      settings.setClientSettings({ sqlComments: isCommented })
      hooks.hookDatabaseClients()
      mysql2.traceMysql2()
      const isIdempotencyKey = keys.compileKeyPatterns(settings.DEFAULT_KEY_PATTERNS)
      ioredis.traceIoredis(isIdempotencyKey)
      nodeRedis.traceNodeRedis(isIdempotencyKey)
    },
  }
}
