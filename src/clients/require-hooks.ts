/**
 * The database clients that Next does not bundle, traced as they are loaded: no line in the app. `pg` is among
 * Next's own externals; `mysql2` is with `withThroughline(nextConfig)`.
 */
import {
  InstrumentationBase,
  InstrumentationNodeModuleDefinition,
  InstrumentationNodeModuleFile,
} from '@opentelemetry/instrumentation'
import { SCOPE } from '../telemetry/names.js'
import { type MysqlConnection, wrapMysqlConnection, wrapMysqlPool } from './database/mysql2.js'
import { type PgClient, wrapPgClient, wrapPgPool } from './database/pg.js'

/** Hooks `require` and `import`. Call once per process, before the clients are loaded. */
export function hookDatabaseClients(): void {
  // An instrumentation is in place once it is made.
  new DatabaseClientHooks()
}

class DatabaseClientHooks extends InstrumentationBase {
  constructor() {
    super(`${SCOPE}/database`, '1', {})
  }

  protected override init(): InstrumentationNodeModuleDefinition[] {
    const pg = ['>=8.0.3 <9']
    const mysql2 = ['>=3 <4']
    return [
      classesIn('pg', pg, ['pg/lib/client.js', 'pg/lib/native/client.js'], wrapPgClientClass),
      new InstrumentationNodeModuleDefinition('pg-pool', ['>=2.0.0 <4'], wrapPgPoolClass),
      classesIn(
        'mysql2',
        mysql2,
        ['mysql2/lib/base/connection.js', 'mysql2/lib/connection.js'],
        wrapMysqlClass,
      ),
      classesIn('mysql2', mysql2, ['mysql2/lib/base/pool.js', 'mysql2/lib/pool.js'], wrapMysqlPoolClass),
    ]
  }
}

/** Hooks the files that define a client's classes: who loads the package by another entry has them too. */
function classesIn(
  name: string,
  versions: string[],
  files: string[],
  // biome-ignore lint/suspicious/noExplicitAny: a module's exports
  patch: (exports: any) => unknown,
): InstrumentationNodeModuleDefinition {
  return new InstrumentationNodeModuleDefinition(
    name,
    versions,
    undefined,
    undefined,
    files.map((file) => new InstrumentationNodeModuleFile(file, versions, patch, () => {})),
  )
}

function wrapPgClientClass(client: { prototype: PgClient }): unknown {
  wrapPgClient(client.prototype)
  return client
}

function wrapPgPoolClass(pool: { prototype: PgClient }): unknown {
  wrapPgPool(pool.prototype)
  return pool
}

function wrapMysqlClass(connection: { prototype: MysqlConnection }): unknown {
  wrapMysqlConnection(connection.prototype)
  return connection
}

function wrapMysqlPoolClass(pool: { prototype: object }): unknown {
  wrapMysqlPool(pool.prototype)
  return pool
}
