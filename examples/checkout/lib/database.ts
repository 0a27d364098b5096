/** The orders: in Postgres when `DATABASE_URL` is set, else in an embedded PGlite that forgets at exit. */
import { PGlite } from '@electric-sql/pglite'
import { Pool } from 'pg'
import { instrumentPglite } from 'throughline/clients/pglite'
import { migrate } from 'throughline/idempotency/postgres'

/** What this app asks of a database, or of a transaction in it; `pg` and PGlite both have it. */
export interface Queryable {
  query<Row>(text: string, values?: unknown[]): Promise<{ rows: Row[] }>
}

export interface Order {
  id: number
  item: string
  quantity: number
  way: 'guarded' | 'by hand'
}

const ORDERS = `CREATE TABLE IF NOT EXISTS orders (
  id serial PRIMARY KEY,
  item text NOT NULL,
  quantity integer NOT NULL CHECK (quantity > 0),
  way text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
)`

// Next loads this module once per bundle; the database must be one per process.
const holder = globalThis as { checkoutDatabase?: Pool | PGlite }

/** The database; nothing is connected before the first statement. */
export function database(): Pool | PGlite {
  holder.checkoutDatabase ??= process.env.DATABASE_URL
    ? new Pool({ connectionString: process.env.DATABASE_URL })
    : instrumentPglite(new PGlite())
  return holder.checkoutDatabase
}

/** Makes the tables: the app's own, and the one for idempotency records. */
export async function prepareDatabase(): Promise<void> {
  await queryable().query(ORDERS)
  await migrate(database())
}

/** Writes an order, in a transaction or on its own, and returns its number. */
export async function insertOrder(order: Omit<Order, 'id'>, tx: Queryable = queryable()): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    'INSERT INTO orders (item, quantity, way) VALUES ($1, $2, $3) RETURNING id',
    [order.item, order.quantity, order.way],
  )
  const [row] = rows
  if (row === undefined) throw new Error('INSERT returned no row.')
  return row.id
}

/** The newest orders first. */
export async function latestOrders(): Promise<Order[]> {
  const { rows } = await queryable().query<Order>(
    'SELECT id, item, quantity, way FROM orders ORDER BY id DESC LIMIT 20',
  )
  return rows
}

function queryable(): Queryable {
  return database() as Queryable
}
