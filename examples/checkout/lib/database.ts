/** The orders: in Postgres when `DATABASE_URL` is set, else in an embedded PGlite that forgets at exit. */
import { Pool } from 'pg'
import { instrumentPglite } from 'throughline/clients/pglite'

/** What this app asks of a database; `pg` and PGlite both have it. */
interface Database {
  query<Row>(text: string, values?: unknown[]): Promise<{ rows: Row[] }>
}

export interface Order {
  id: number
  item: string
  quantity: number
  way: 'guarded' | 'by hand'
}

const SCHEMA = `CREATE TABLE IF NOT EXISTS orders (
  id serial PRIMARY KEY,
  item text NOT NULL,
  quantity integer NOT NULL CHECK (quantity > 0),
  way text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
)`

// Next loads this module once per bundle; the database must be one per process.
const holder = globalThis as { checkoutDatabase?: Promise<Database> }

function database(): Promise<Database> {
  holder.checkoutDatabase ??= connect()
  return holder.checkoutDatabase
}

async function connect(): Promise<Database> {
  const url = process.env.DATABASE_URL
  if (url) {
    const pool = new Pool({ connectionString: url })
    await pool.query(SCHEMA)
    return pool as Database
  }
  const { PGlite } = await import('@electric-sql/pglite')
  const pglite = new PGlite()
  await pglite.exec(SCHEMA)
  return instrumentPglite(pglite) as unknown as Database
}

/** Writes an order and returns its number. */
export async function insertOrder(order: Omit<Order, 'id'>): Promise<number> {
  const { rows } = await (await database()).query<{ id: number }>(
    'INSERT INTO orders (item, quantity, way) VALUES ($1, $2, $3) RETURNING id',
    [order.item, order.quantity, order.way],
  )
  const [row] = rows
  if (row === undefined) throw new Error('INSERT returned no row.')
  return row.id
}

/** The newest orders first. */
export async function latestOrders(): Promise<Order[]> {
  const { rows } = await (await database()).query<Order>(
    'SELECT id, item, quantity, way FROM orders ORDER BY id DESC LIMIT 20',
  )
  return rows
}
