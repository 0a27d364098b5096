/** `throughline outbox`, `throughline outbox <id>`, `throughline outbox redrive` and `throughline outbox discard`. */
import { Command, InvalidArgumentError, Option } from 'commander'
import { isThroughlineError } from '../../errors.js'
import { MESSAGE_STATES, type MessageState, type OutboxMessage } from '../../outbox/message-rows.js'
import { type Messages, openMessages } from '../../outbox/messages.js'
import { isSchemaName } from '../../outbox/options.js'
import { countArgument } from '../arguments/count-argument.js'
import { confirmed } from '../terminal/confirm.js'
import { printable, printableDocument } from '../terminal/printable.js'
import { terminalOf } from '../terminal/terminal.js'
import { renderMessage } from './render-message.js'
import { renderMessages, renderOutbox } from './render-outbox.js'

interface DatabaseOptions {
  databaseUrl?: string
  schema?: string
}

interface ShowOptions extends DatabaseOptions {
  topic?: string
  state?: MessageState[]
  count?: number
  payload?: boolean
  json?: boolean
  color: boolean
}

interface ActOptions extends DatabaseOptions {
  topic?: string
  all?: boolean
  yes?: boolean
  json?: boolean
  color: boolean
}

const DEFAULT_COUNT = 50

/** The most dead letters that are shown before it asks. */
const MAX_ASKED_ABOUT = 20

/** The most dead letters that one call acts on. */
const MAX_ACTED_ON = 10_000

const HELP = `
Reads the queue in the app's database (DATABASE_URL). An ID is a message's, its beginning (8 characters or more), or
the correlation ID of the request that sent it. A dead letter is a message that failed for good.

Examples:
  $ throughline outbox                                    each topic, and what is not done
  $ throughline outbox 4d3d65c5                           one message: sent, tried, how it stands
  $ throughline outbox --state dead --topic payment.charge
  $ throughline outbox redrive 4d3d65c5                   give it back to its topic; asks first
  $ throughline outbox redrive --topic payment.charge     all dead letters of a topic
  $ throughline outbox discard 4d3d65c5 --yes             delete it, without asking
  $ throughline outbox --json | jq '.messages[] | select(.state == "dead") | .id'

With --json, one document: { "topics": [], "messages": [] }, and with an ID: { "messages": [] }. A message is
  { "id", "messageId", "topic", "state", "attempts", "maxAttempts", "orderKey",
    "sent": { "timeMs", "correlationId", "traceparent", "action" },
    "failed": [{ "attempt", "type", "message", "at", "traceparent" }],
    "startAfterMs", "startedMs", "done": { "timeMs", "traceparent" } }
  with "payload" where --payload is given. What is not known is left out.

Exit status: 0 found or done, 1 nothing found, refused or failed, 2 usage.`

/** The command. It sets `process.exitCode`. */
export function outboxCommand(): Command {
  const command = new Command('outbox')
    .description('list messages of the outbox, show one, redrive or discard dead letters')
    .argument('[id]', 'a message or a correlation ID', idArgument)
    .option('--topic <topic>', 'only of this topic')
    .addOption(
      new Option('--state <state...>', 'only in these states').choices(MESSAGE_STATES as readonly string[]),
    )
    .option(
      '-n, --count <count>',
      `most messages to list (default: ${DEFAULT_COUNT})`,
      countArgument(MAX_ACTED_ON),
    )
    .option('--payload', 'payloads too, which may hold personal data')
    .addHelpText('after', HELP)
    .action((id: string | undefined, options: ShowOptions) =>
      withMessages(options, (messages) =>
        id === undefined ? list(messages, options) : show(messages, id, options),
      ),
    )
  withCommonOptions(command)
  for (const act of [REDRIVE, DISCARD]) command.addCommand(actCommand(act))
  return command
}

function withCommonOptions(command: Command): Command {
  return command
    .option('--database-url <url>', 'the database of the app (default: DATABASE_URL)')
    .option('--schema <name>', 'schema of the queue (default: pgboss)', schemaArgument)
    .option('--json', 'one JSON document instead of the text')
    .option('--no-color', 'no colours; so are NO_COLOR=1 and output that is not a terminal')
}

async function list(messages: Messages, options: ShowOptions): Promise<void> {
  const { topic, state, count = DEFAULT_COUNT } = options
  const found = await messages.list({ topic, ...(state && { states: state }), limit: count })
  const known = await messages.topics()
  const topics = known.filter((each) => topic === undefined || each.topic === topic)
  if (topics.length === 0) return fail(noTopicText(topic, known))
  if (options.json) return printJson({ topics, messages: found.map((each) => documentOf(each, options)) })
  process.stdout.write(renderOutbox(topics, found, count, terminal(options)))
}

async function show(messages: Messages, id: string, options: ShowOptions): Promise<void> {
  const found = (await messages.find(id)).filter(
    ({ topic, state }) =>
      (options.topic ?? topic) === topic && (options.state === undefined || options.state.includes(state)),
  )
  if (found.length === 0) return fail(nothingText(id))
  if (options.json) return printJson({ messages: found.map((each) => documentOf(each, options)) })
  // A message that became a dead letter has two entries: the one that stands is shown.
  const shown = found.filter((each) => each.state !== 'replaced' || isAlone(each, found)).reverse()
  process.stdout.write(
    shown.map((message) => renderMessage(message, options.payload === true, terminal(options))).join('\n'),
  )
}

function isAlone(entry: OutboxMessage, found: readonly OutboxMessage[]): boolean {
  return !found.some((other) => other !== entry && other.messageId === entry.messageId)
}

interface Act {
  name: 'redrive' | 'discard'
  done: 'redriven' | 'discarded'
  description: string
  question: string
}

const REDRIVE: Act = {
  name: 'redrive',
  done: 'redriven',
  description: 'give dead letters back to their topics',
  question: 'Give back to be tried again?',
}
const DISCARD: Act = {
  name: 'discard',
  done: 'discarded',
  description: 'delete dead letters, for good',
  question: 'Delete for good?',
}

function actCommand(act: Act): Command {
  const command = new Command(act.name)
    .description(`${act.description}; asks first`)
    .argument('[ids...]', 'messages, or their beginnings')
    .option('--topic <topic>', 'all dead letters of this topic')
    .option('--all', 'all dead letters')
    .option('-y, --yes', 'without asking')
    .action((ids: string[], _options: ActOptions, self: Command) => {
      // What both commands have is parsed by the outer one.
      const options = self.optsWithGlobals<ActOptions>()
      const ways = [ids.length > 0, options.topic !== undefined, options.all === true].filter(Boolean)
      if (ways.length !== 1) self.error('error: name messages, or --topic, or --all: one of the three.')
      return withMessages(options, (messages) => actOn(act, messages, ids, options, self))
    })
  return withCommonOptions(command)
}

async function actOn(
  act: Act,
  messages: Messages,
  ids: readonly string[],
  options: ActOptions,
  command: Command,
): Promise<void> {
  const { topic } = options
  const dead: OutboxMessage[] = []
  if (ids.length === 0) dead.push(...(await messages.list({ topic, states: ['dead'], limit: MAX_ACTED_ON })))
  for (const id of ids) {
    const found = (await messages.find(idArgument(id))).filter(({ state }) => state === 'dead')
    if (found.length === 0)
      return fail(`throughline: no dead letter is "${printable(id)}". Nothing was done.`)
    if (
      new Set(found.map(({ messageId }) => messageId)).size > 1 &&
      !found.some((each) => each.sent.correlationId === id)
    )
      return fail(`throughline: several dead letters begin with "${printable(id)}". Nothing was done.`)
    dead.push(...found)
  }
  if (dead.length === 0) return fail('throughline: there are no dead letters. Nothing was done.')
  if (options.yes !== true) {
    if (!process.stdin.isTTY) command.error('error: nobody can be asked here: say --yes.')
    const output = terminalOf(process.stderr, process.env, options.color)
    process.stderr.write(renderMessages(dead.slice(0, MAX_ASKED_ABOUT), output))
    if (dead.length > MAX_ASKED_ABOUT)
      process.stderr.write(`and ${dead.length - MAX_ASKED_ABOUT} more, ${dead.length} in all.\n`)
    if (!(await confirmed(act.question))) return fail('throughline: nothing was done.')
  }
  const done = await messages[act.name](dead.map(({ id }) => id))
  if (options.json) printJson({ [act.done]: done })
  else process.stdout.write(`${done} ${done === 1 ? 'message' : 'messages'} ${act.done}.\n`)
  if (dead.length === MAX_ACTED_ON) process.stderr.write('throughline: there may be more: run it again.\n')
  if (done < dead.length) fail(`throughline: ${dead.length - done} had been taken care of meanwhile.`)
}

async function withMessages(
  { databaseUrl, schema }: DatabaseOptions,
  body: (messages: Messages) => Promise<void>,
): Promise<void> {
  const connectionString = databaseUrl ?? process.env.DATABASE_URL
  if (!connectionString)
    return fail(
      'throughline: no database is named. Set DATABASE_URL, or give --database-url.\n  An embedded PGlite can be read by its own process alone: openMessages of throughline/outbox.',
    )
  const messages = await openMessages({ connectionString, ...(schema && { schema }) }).catch(
    (error: Error) => {
      // By node or by Postgres: a wrong host, name or password, or a role that may not read it. A stack says less.
      const { code } = error as { code?: unknown }
      if (isThroughlineError(error) || typeof code !== 'string') throw error
      fail(`throughline: the database cannot be asked: ${printable(error.message)} (${printable(code)}).`)
    },
  )
  if (messages === undefined) return
  try {
    await body(messages)
  } finally {
    await messages.close()
  }
}

function documentOf(message: OutboxMessage, { payload: isWanted }: ShowOptions): object {
  const { failed, payload, ...rest } = message
  return {
    ...rest,
    failed: failed.map(({ stack: _, ...attempt }) => attempt),
    ...(isWanted ? { payload } : {}),
  }
}

function terminal({ color }: { color: boolean }) {
  return terminalOf(process.stdout, process.env, color)
}

function printJson(document: object): void {
  process.stdout.write(printableDocument(document))
}

function fail(text: string): void {
  process.stderr.write(`${text}\n`)
  process.exitCode = 1
}

function noTopicText(topic: string | undefined, known: readonly { topic: string }[]): string {
  if (known.length === 0) return 'throughline: the outbox has no messages, and had none lately.'
  const names = known.map((each) => printable(each.topic)).join(', ')
  return `throughline: there is no message of topic "${printable(topic ?? '')}". Topics that have some: ${names}.`
}

function nothingText(id: string): string {
  return [
    `throughline: no message found for "${printable(id)}".`,
    '  Looked for: a message, its beginning (8 characters or more), or the correlation ID of what sent it.',
    '  Check that: the request committed: what is rolled back was never sent;',
    '              it is not too long ago: a handled message is kept for 7 days;',
    '              --database-url and --schema name the database of the app.',
  ].join('\n')
}

function idArgument(value: string): string {
  if (value.trim() !== '') return value.trim()
  throw new InvalidArgumentError('An ID has at least one character.')
}

function schemaArgument(value: string): string {
  if (isSchemaName(value)) return value
  throw new InvalidArgumentError('A schema is 1–50 letters, digits and _.')
}
