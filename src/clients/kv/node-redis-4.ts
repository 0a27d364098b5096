/**
 * Wraps a client of node-redis 4. Its methods send through a private method that is out of reach, so each method is
 * wrapped, and the client's own `multi`, which collects commands, tells what a method sends.
 */
import { tryGetContext } from '../../context/index.js'
import {
  isFirstWrap,
  outsideRequest,
  putMethod,
  type SentCommand,
  sendBatchTraced,
  sendTraced,
  type WrappedKv,
} from './command-wrap.js'

/** What is read of a client of node-redis 4. */
export interface NodeRedis4 {
  options?: { legacyMode?: boolean; modules?: object; scripts?: object }
  /** The class of `multi()`. */
  Multi: new (
    execute: () => Promise<unknown>,
  ) => Commander
  connect(): Promise<unknown>
  sendCommand(args: SentCommand, options?: unknown): Promise<unknown>
  select(...args: unknown[]): Promise<unknown>
  multiExecutor(
    commands: readonly { args: SentCommand }[],
    database: number | undefined,
    chainId?: symbol,
  ): Promise<unknown>
  executeScript(script: object, args: SentCommand, ...rest: unknown[]): Promise<unknown>
  executeFunction(name: string, fn: object, args: SentCommand, ...rest: unknown[]): Promise<unknown>
  executeIsolated(run: (other: NodeRedis4) => Promise<unknown>): Promise<unknown>
}

type Method = (...args: unknown[]) => unknown
/** Commands by their method's name; those of a module in an object below the module's. */
type Methods = Record<string, Method>
type Commander = object & { addCommand(args: SentCommand): unknown }

/** Methods of `Multi` that are no commands. */
const NO_COMMAND = /^(?:constructor|addCommand|exec|EXEC|execAsPipeline|select|SELECT)$|Executor$/

export function isNodeRedis4(client: object): client is NodeRedis4 {
  const { options } = client as NodeRedis4
  return 'multiExecutor' in client && 'Multi' in client && options?.legacyMode !== true
}

export function wrapNodeRedis4(client: NodeRedis4, kv: WrappedKv): void {
  const { connect, sendCommand, select, multiExecutor, executeScript, executeFunction, executeIsolated } =
    client
  putMethod(client, 'connect', () => outsideRequest(() => connect.call(client)))
  let isSending = false
  const traced: SendTraced = (command, send) => {
    const sendSynchronously = () => {
      isSending = true
      try {
        return send()
      } finally {
        isSending = false
      }
    }
    return command === undefined ? sendSynchronously() : sendTraced(kv, command, sendSynchronously)
  }
  wrapCommands(client, traced)
  putMethod(client, 'sendCommand', (args: SentCommand, options?: unknown) =>
    traced(args, () => sendCommand.call(client, args, options)),
  )
  putMethod(client, 'executeIsolated', (run: (other: NodeRedis4) => Promise<unknown>) => {
    // A command with `isolated: true` is sent by another client, and has its span.
    const isCommand = isSending
    return executeIsolated.call(client, (other) => {
      if (isCommand) return outsideRequest(() => run(other))
      if (isFirstWrap(other)) wrapNodeRedis4(other, kv)
      return run(other)
    })
  })
  const selecting = async (...args: unknown[]) => {
    const reply = await select.apply(client, args)
    kv.selectedDatabase = Number(args.at(-1))
    return reply
  }
  putMethod(client, 'select', selecting)
  putMethod(client, 'SELECT', selecting)
  putMethod(client, 'multiExecutor', ((commands, database, chainId) => {
    const sent = commands.map(({ args }) => args)
    const send = () => multiExecutor.call(client, commands, database, chainId)
    if (chainId === undefined) return sendBatchTraced(kv, 'PIPELINE', sent, send)
    // The last of its answers is that of EXEC.
    return sendBatchTraced(kv, 'MULTI', sent, send, (answer) => Array.isArray(answer) && answer.at(-1))
  }) satisfies NodeRedis4['multiExecutor'])
  putMethod(client, 'executeScript', (...given: Parameters<NodeRedis4['executeScript']>) =>
    sendTraced(kv, ['EVALSHA'], () => executeScript.apply(client, given)),
  )
  putMethod(client, 'executeFunction', (...given: Parameters<NodeRedis4['executeFunction']>) =>
    sendTraced(kv, ['FCALL'], () => executeFunction.apply(client, given)),
  )
}

type SendTraced = (command: SentCommand | undefined, send: () => unknown) => unknown

function wrapCommands(client: NodeRedis4, traced: SendTraced): void {
  const { modules = {}, scripts = {} } = client.options ?? {}
  const reader = readerOf(client)
  for (const name of commandNamesOf(reader.commander)) {
    if (!(name in scripts)) wrapCommand(client, reader.commander, name, reader, traced)
  }
  for (const [module, commands] of Object.entries(modules)) {
    const owner = (client as unknown as Record<string, object>)[module]
    const collector = (reader.commander as unknown as Record<string, object>)[module]
    if (owner === undefined || collector === undefined) continue
    for (const name of Object.keys(commands as object)) wrapCommand(owner, collector, name, reader, traced)
  }
}

function wrapCommand(
  owner: object,
  collector: object,
  name: string,
  { read }: Reader,
  traced: SendTraced,
): void {
  const method = (owner as Methods)[name]
  const collect = (collector as Methods)[name]
  if (typeof method !== 'function' || typeof collect !== 'function') return
  putMethod(owner, name, function (this: unknown, ...args: unknown[]) {
    const send = () => method.apply(this, args)
    const command =
      tryGetContext() === undefined ? undefined : read(() => collect.apply(collector, withoutOptions(args)))
    return traced(command, send)
  })
}

interface Reader {
  commander: Commander
  /** The command that is added meanwhile; undefined where the client will refuse the arguments too. */
  read(add: () => unknown): SentCommand | undefined
}

function readerOf({ Multi }: NodeRedis4): Reader {
  const commander = new Multi(async () => {})
  let added: SentCommand | undefined
  putMethod(commander, 'addCommand', (args: SentCommand) => {
    added = args
    return commander
  })
  return {
    commander,
    read(add) {
      added = undefined
      try {
        add()
      } catch {
        return undefined
      }
      return added
    },
  }
}

function commandNamesOf(commander: Commander): Set<string> {
  const names = new Set<string>()
  for (
    let owner = Object.getPrototypeOf(commander);
    owner !== Object.prototype;
    owner = Object.getPrototypeOf(owner)
  ) {
    for (const name of Object.getOwnPropertyNames(owner)) if (!NO_COMMAND.test(name)) names.add(name)
  }
  return names
}

// `commandOptions({ … })`, which bears a symbol of the client's, may come first. A multi takes none.
function withoutOptions(args: unknown[]): unknown[] {
  const [first] = args
  const isOptions =
    typeof first === 'object' &&
    first !== null &&
    Object.getOwnPropertySymbols(first).some(({ description }) => description === 'Command Options')
  return isOptions ? args.slice(1) : args
}
