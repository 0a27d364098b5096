/**
 * Postgres' `application_name` as the bearer of the ID (`sqlApplicationName`): statements, and so prepared plans, stay
 * as they are.
 */
import { tryGetContext } from '../../context/index.js'
import { clientSettings } from '../settings.js'
import type { WrappedMethod } from './wrap-method.js'

/** A connection of a pool. */
interface PooledClient {
  query: WrappedMethod
}

/** The request whose ID a connection bears. */
const bearers = new WeakMap<object, string>()

/**
 * Wraps the `connect` of a pool: a connection is given out when it bears the request's ID. That is one round trip
 * where the request before was another.
 */
export function bearingName(connect: WrappedMethod): WrappedMethod {
  return function (this: unknown, ...args) {
    if (!clientSettings().sqlApplicationName) return connect.apply(this, args)
    const id = tryGetContext()?.correlationId
    const [callback] = args
    if (typeof callback !== 'function') {
      const connected = connect.apply(this, args) as Promise<PooledClient>
      return connected.then((client) => new Promise((resolve) => bearName(client, id, () => resolve(client))))
    }
    args[0] = (error: unknown, client: PooledClient | undefined, ...rest: unknown[]) => {
      if (client === undefined) return callback(error, client, ...rest)
      return bearName(client, id, () => callback(error, client, ...rest))
    }
    return connect.apply(this, args)
  }
}

/** Outside a request the connection has the name back that the app gave it. */
function bearName(client: PooledClient, id: string | undefined, next: () => unknown): void {
  if (bearers.get(client) === id) {
    next()
    return
  }
  const onNamed = (error: unknown) => {
    // Refused, as in a transaction that has failed: the connection is given out all the same.
    if (error || id === undefined) bearers.delete(client)
    else bearers.set(client, id)
    next()
  }
  // Beneath the wrapper: it is no statement of the request's own.
  const query = client.query.original ?? client.query
  if (id === undefined) query.call(client, 'RESET application_name', onNamed)
  else query.call(client, "SELECT set_config('application_name', $1, false)", [id], onNamed)
}
