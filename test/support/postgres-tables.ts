/** A table of records for each store that a test makes, in one database. */
import { randomUUID } from 'node:crypto'
import { migrate, type PostgresDatabase } from '../../src/idempotency/stores/postgres.ts'

/** Makes a fresh table through the client, and returns its name. */
export async function freshTable(db: PostgresDatabase): Promise<string> {
  const table = `records_${randomUUID().replaceAll('-', '')}`
  await migrate(db, { table })
  return table
}
