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
import { stopListening } from './database/mysql2-channels.js'
import { wrapPgClient, wrapPgPool } from './database/pg.js'

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
      // The files that define the classes: who loads the package by another entry has them too.
      new InstrumentationNodeModuleDefinition('pg', pg, undefined, undefined, [
        classIn('pg/lib/client.js', pg, wrapPgClient),
        classIn('pg/lib/native/client.js', pg, wrapPgClient),
      ]),
      new InstrumentationNodeModuleDefinition('pg-pool', ['>=2.0.0 <4'], wrappingClass(wrapPgPool)),
      new InstrumentationNodeModuleDefinition('mysql2', mysql2, undefined, undefined, [
        classIn('mysql2/lib/base/connection.js', mysql2, wrapLoadedMysql),
        classIn('mysql2/lib/base/pool.js', mysql2, wrapMysqlPool),
        // Before 3.12 the classes were here.
        classIn('mysql2/lib/connection.js', mysql2, wrapLoadedMysql),
        classIn('mysql2/lib/pool.js', mysql2, wrapMysqlPool),
      ]),
    ]
  }
}

function wrapLoadedMysql(connection: MysqlConnection): void {
  wrapMysqlConnection(connection)
  stopListening()
}

function classIn<Client>(
  file: string,
  versions: string[],
  wrap: (prototype: Client) => void,
): InstrumentationNodeModuleFile {
  return new InstrumentationNodeModuleFile(file, versions, wrappingClass(wrap), () => {})
}

/** What is done with a module that exports one class. */
function wrappingClass<Client>(wrap: (prototype: Client) => void) {
  return <Class extends { prototype: Client }>(exported: Class): Class => {
    wrap(exported.prototype)
    return exported
  }
}
