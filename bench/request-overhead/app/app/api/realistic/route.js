import { Redis } from 'ioredis'
import { Pool } from 'pg'

export const dynamic = 'force-dynamic'

const redis = new Redis(process.env.REDIS_URL, { lazyConnect: true })
const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 10 })

export async function GET() {
  const cached = await redis.get('product:42')
  const { rows } = await pool.query('SELECT $1::int AS id, now() AS at', [42])
  return Response.json({ cached, row: rows[0] })
}
