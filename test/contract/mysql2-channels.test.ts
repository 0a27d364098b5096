/** A mysql2 that nobody wrapped, as where Next bundles it: what its channels tell. */
import { createPool } from 'mysql2'
import mysql from 'mysql2/promise'
import { afterAll, describe } from 'vitest'
import { instrumentMysql2 } from '../../src/clients/database/mysql2.ts'
import { traceMysql2 } from '../../src/clients/database/mysql2-channels.ts'
import { startMariadb } from '../support/mariadb.ts'
import { type DatabaseSetUp, describeDatabaseClient } from './database-client.ts'
import { ofMysqlPool, withMysqlCallbacks } from './database-shapes.ts'

const server = await startMariadb()
traceMysql2()
afterAll(() => server?.stop())

describe.skipIf(server === undefined)('mysql2 that announces its statements', () => {
  const url = server?.url ?? ''
  const ofMariadb: Omit<DatabaseSetUp, 'connect' | 'isCommented'> = {
    system: 'mysql',
    target: {
      'db.namespace': 'shop',
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(url).port),
    },
    log: () => server?.log(),
  }
  const elsewhere = (port: number) => `mysql://root@127.0.0.1:${port}/shop`
  const connect = async (uri: string, method: 'query' | 'execute') =>
    ofMysqlPool(mysql.createPool({ uri, connectionLimit: 2 }), method)

  // Before any is wrapped: the wrapper stays on the class.
  describeDatabaseClient('with promises', {
    ...ofMariadb,
    isCommented: false,
    connect: () => connect(url, 'query'),
    connectToNothing: (port) => connect(elsewhere(port), 'query'),
  })
  describeDatabaseClient('with prepared statements', {
    ...ofMariadb,
    isCommented: false,
    connect: () => connect(url, 'execute'),
    connectToNothing: (port) => connect(elsewhere(port), 'execute'),
  })
  describeDatabaseClient('with callbacks', {
    ...ofMariadb,
    isCommented: false,
    hasTransactions: false,
    connect: async () => withMysqlCallbacks(createPool({ uri: url, connectionLimit: 2 })),
  })
  describeDatabaseClient('and is wrapped as well', {
    ...ofMariadb,
    isCommented: true,
    connect: async () =>
      ofMysqlPool(instrumentMysql2(mysql.createPool({ uri: url, connectionLimit: 2 })), 'query'),
    connectToNothing: async (port) =>
      ofMysqlPool(instrumentMysql2(mysql.createPool({ uri: elsewhere(port), connectionLimit: 2 })), 'query'),
  })
})
