/**
 * What Neon puts in front of its Postgres, as thin as it can be: SQL over HTTP, and a WebSocket that carries the wire
 * protocol. Behind both stands a real Postgres.
 */
import { createServer, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { json } from 'node:stream/consumers'
import pg from 'pg'
import { createWebSocketStream, WebSocketServer } from 'ws'

export interface NeonBridge {
  /** `host:port`: what `neonConfig.wsProxy` and `fetchEndpoint` are set to. */
  address: string
  close(): Promise<void>
}

interface Statement {
  query: string
  params: unknown[]
}

/** @param databaseUrl of the real Postgres */
export async function startNeonBridge(databaseUrl: string): Promise<NeonBridge> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 4 })
  const server = createServer(async (request, response) => {
    try {
      const answer = await runAll(
        pool,
        (await json(request)) as Statement | { queries: Statement[] },
        request,
      )
      response.end(JSON.stringify(answer))
    } catch (error) {
      const { message, code } = error as { message: string; code?: string }
      response.statusCode = 400
      response.end(JSON.stringify({ message, code }))
    }
  })
  const sockets = new WebSocketServer({ server })
  const { hostname, port } = new URL(databaseUrl)
  sockets.on('connection', (socket) => {
    const stream = createWebSocketStream(socket)
    const upstream = connect(Number(port), hostname)
    stream.on('error', () => upstream.destroy())
    upstream.on('error', () => socket.terminate())
    stream.pipe(upstream).pipe(stream)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port: own } = server.address() as { port: number }
  return {
    address: `127.0.0.1:${own}`,
    async close() {
      for (const socket of sockets.clients) socket.terminate()
      sockets.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await pool.end()
    },
  }
}

async function runAll(
  pool: pg.Pool,
  body: Statement | { queries: Statement[] },
  { headers }: IncomingMessage,
): Promise<unknown> {
  const isArrayMode = headers['neon-array-mode'] === 'true'
  const client = await pool.connect()
  try {
    if (!('queries' in body)) return await run(client, body, isArrayMode)
    await client.query('BEGIN')
    const results: unknown[] = []
    for (const statement of body.queries) results.push(await run(client, statement, isArrayMode))
    await client.query('COMMIT')
    return { results }
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

async function run(
  client: pg.PoolClient,
  { query, params }: Statement,
  isArrayMode: boolean,
): Promise<unknown> {
  const { command, rowCount, fields, rows } = await client.query({
    text: query,
    values: params,
    ...(isArrayMode ? { rowMode: 'array' as const } : {}),
    // Neon hands the text on; its client parses it.
    types: { getTypeParser: () => (text: string) => text } as never,
  })
  return { command, rowCount, rows, fields: fields.map(({ name, dataTypeID }) => ({ name, dataTypeID })) }
}
