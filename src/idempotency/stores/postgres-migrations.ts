/** The table of the Postgres stores: as SQL to read and apply by any tool, and as a function that applies it. */
import { databaseOf, type PostgresDatabase } from '../../postgres/database.js'

/** Where records are kept unless a store says otherwise. */
export const DEFAULT_TABLE = 'throughline_idempotency'

/** One step of the schema. Steps are only ever added. */
export interface Migration {
  /** Sorts in the order of application: `001_idempotency`. */
  name: string
  /** Statements, each ended by a semicolon and an empty line. Applied twice, it changes nothing. */
  sql: string
}

/**
 * The steps, oldest first. The package also has them as files, `migrations/*.sql`, for the table's default name.
 *
 * @param table name of the table, with its schema where it is not on the search path
 * @throws {TypeError} for a name that is not one or two plain identifiers.
 */
export function migrationsOf(table: string = DEFAULT_TABLE): Migration[] {
  const name = tableOf(table)
  const index = `${name.split('.').at(-1)}_expires_at`
  return [
    {
      name: '001_idempotency',
      sql: `-- Records of idempotency keys: one row per key. A row outlives its run by its retention.
CREATE TABLE IF NOT EXISTS ${name} (
  -- SHA-256 of scope, name and key, in hex. The key itself is never stored.
  key text PRIMARY KEY,
  state text NOT NULL CHECK (state IN ('claimed', 'completed', 'aborted', 'unknown')),
  -- SHA-256 of the payload: the same key with another payload is refused.
  fingerprint text NOT NULL,
  -- Names the current or last run; only its owner may complete it.
  token text NOT NULL,
  fence bigint NOT NULL,
  has_effects boolean NOT NULL,
  -- Where the key was used first.
  origin_trace_id text,
  origin_span_id text,
  origin_correlation_id text,
  first_used_at timestamptz NOT NULL,
  last_used_at timestamptz NOT NULL,
  last_outcome text NOT NULL,
  hits bigint NOT NULL,
  -- The last 32 uses, oldest first: at (epoch milliseconds), outcome, traceId.
  uses jsonb NOT NULL,
  -- What a repeat is answered with, present when completed: a text, written as JSON.
  result json,
  lease interval NOT NULL,
  retention interval NOT NULL,
  lease_ends_at timestamptz NOT NULL,
  -- From here on the row counts as absent, and may be deleted.
  expires_at timestamptz NOT NULL
-- Every use of a key updates its row: room on the page keeps the update off the indexes.
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS ${index} ON ${name} (expires_at);
`,
    },
  ]
}

/**
 * Creates the table, or brings it up to date. May be called by many processes at once, and again.
 *
 * @param db any client that `postgresStore` takes
 * @example await migrate(pool)
 */
export async function migrate(db: PostgresDatabase, { table = DEFAULT_TABLE } = {}): Promise<void> {
  const steps = migrationsOf(table)
  await databaseOf('migrate', db).transaction(async (_tx, query) => {
    // One at a time: CREATE TABLE IF NOT EXISTS may still collide with itself.
    await query('SELECT pg_advisory_xact_lock(hashtext($1::text))::text AS answer', [`throughline ${table}`])
    for (const { sql } of steps) {
      // Drivers with parameters send one statement at a time.
      for (const statement of sql.split(/;\n\n?/)) if (statement.trim() !== '') await query(statement, [])
    }
  })
}

/** @throws {TypeError} for what could be more than the name of a table. */
export function tableOf(table: unknown): string {
  const identifier = '[A-Za-z_][A-Za-z0-9_]{0,62}'
  if (typeof table === 'string' && new RegExp(`^(?:${identifier}\\.)?${identifier}$`).test(table))
    return table
  throw new TypeError(
    `postgresStore: "table" must be a plain name, or schema.name, of A-Z a-z 0-9 _, received ${JSON.stringify(table)}.`,
  )
}
