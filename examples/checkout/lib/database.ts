/** The orders: in Postgres when `DATABASE_URL` is set, else in an embedded PGlite that forgets at exit. */
import { PGlite } from '@electric-sql/pglite'
import { Pool, type PoolClient } from 'pg'
import { instrumentPglite } from 'throughline/clients/pglite'
import { migrate } from 'throughline/idempotency/postgres'
import type { OrderRequest } from './order-form.ts'

export interface NewOrder extends OrderRequest {
  way: 'guarded' | 'by hand'
  /** Null for an order that nobody charges. */
  payment: 'charging' | 'paid' | null
}

export interface Order extends NewOrder {
  id: number
}

const TABLES = [
  `CREATE TABLE IF NOT EXISTS orders (
    id serial PRIMARY KEY,
    cents integer NOT NULL CHECK (cents > 0),
    way text NOT NULL,
    payment text CHECK (payment IN ('charging', 'paid')),
    created_at timestamptz NOT NULL DEFAULT now()
  )`,
  `CREATE TABLE IF NOT EXISTS order_items (
    order_id integer NOT NULL REFERENCES orders,
    item text NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, item)
  )`,
]

// Next loads this module once per bundle; the database must be one per process.
const holder = globalThis as { checkoutDatabase?: Pool | PGlite }

/**
 * The database; nothing is connected before the first statement. A PGlite passes for a Pool here: this app calls
 * `query` alone, which is the same in both.
 */
export function database(): Pool {
  holder.checkoutDatabase ??= process.env.DATABASE_URL
    ? new Pool({ connectionString: process.env.DATABASE_URL })
    : instrumentPglite(new PGlite())
  return holder.checkoutDatabase as Pool
}

/** Makes the tables: the app's own, and the one for idempotency records. */
export async function prepareDatabase(): Promise<void> {
  for (const table of TABLES) await database().query(table)
  await migrate(database())
}

/** Writes an order and what is in it, in the caller's transaction, and returns its number. */
export async function insertOrder(tx: PoolClient, order: NewOrder): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    'INSERT INTO orders (cents, way, payment) VALUES ($1, $2, $3) RETURNING id',
    [order.cents, order.way, order.payment],
  )
  const [row] = rows
  if (row === undefined) throw new Error('INSERT returned no row.')
  await tx.query('INSERT INTO order_items (order_id, item, quantity) VALUES ($1, $2, $3)', [
    row.id,
    order.item,
    order.quantity,
  ])
  return row.id
}

/** The order's charge has been made. */
export async function markPaid(tx: PoolClient, orderId: number): Promise<void> {
  await tx.query("UPDATE orders SET payment = 'paid' WHERE id = $1", [orderId])
}

/** The newest orders first. */
export async function latestOrders(): Promise<Order[]> {
  const { rows } = await database().query<Order>(
    `SELECT id, item, quantity, cents, way, payment FROM orders JOIN order_items ON order_id = id
     ORDER BY id DESC LIMIT 20`,
  )
  return rows
}
