/** The outbox for people: a line for each topic, and one for each message. */
import type { MessageState, OutboxMessage, TopicSummary } from '../../outbox/message-rows.js'
import { type Cell, columnWidths, inColumns } from '../terminal/columns.js'
import { formatDuration } from '../terminal/durations.js'
import { paint } from '../terminal/paint.js'
import type { Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'

const INDENT = '    '

/** The whole text, with a line end at its end. */
export function renderOutbox(
  topics: readonly TopicSummary[],
  messages: readonly OutboxMessage[],
  limit: number,
  terminal: Terminal,
): string {
  const { colors } = terminal
  const parts = tableLines(
    [topicHeading(terminal), ...topics.map((topic) => topicRow(topic, terminal))],
    terminal,
  )
  if (messages.length > 0) parts.push('\n', renderMessages(messages, terminal))
  if (messages.length === limit)
    parts.push('\n', colors.yellow(`The newest ${limit} are shown: -n ${limit * 2} shows more.`), '\n')
  return parts.join('')
}

/** A line for each message. */
export function renderMessages(messages: readonly OutboxMessage[], terminal: Terminal): string {
  const heading = messageHeading(messages, terminal)
  const [headingLine = '', ...lines] = tableLines(
    [heading, ...messages.map((each) => messageRow(each, terminal))],
    terminal,
  )
  const errorLines = messages.map((each) => errorLine(each, terminal))
  return headingLine + lines.map((line, index) => line + errorLines[index]).join('')
}

// On a line of its own, which has room for it.
function errorLine({ failed }: OutboxMessage, terminal: Terminal): string {
  const last = failed.at(-1)
  if (last === undefined) return ''
  const text = `${INDENT}${terminal.glyphs.cross} ${last.type}: ${last.message}`
  return `${paint([{ text, style: terminal.colors.red }], terminal.width, terminal).text}\n`
}

/** Red what needs somebody, yellow what had trouble. */
export function stateStyle(
  state: MessageState,
  { colors }: Terminal,
): ((text: string) => string) | undefined {
  if (state === 'dead') return colors.red
  if (state === 'retrying') return colors.yellow
  return state === 'done' ? colors.green : undefined
}

function tableLines(rows: readonly (readonly Cell[])[], terminal: Terminal): string[] {
  const widths = columnWidths(rows)
  return rows.map(
    (row) => `${paint(inColumns(row, widths, terminal), terminal.width, terminal).text.trimEnd()}\n`,
  )
}

function topicHeading({ colors: { dim } }: Terminal): Cell[] {
  const numbers = ['waiting', 'oldest', 'deferred', 'retrying', 'active', 'dead', 'done']
  return [
    { text: 'topic', style: dim },
    ...numbers.map((text) => ({ text, style: dim, align: 'end' as const })),
  ]
}

function topicRow(topic: TopicSummary, terminal: Terminal): Cell[] {
  const count = (number: number, style?: (text: string) => string): Cell => ({
    text: number === 0 ? terminal.glyphs.dot : String(number),
    align: 'end',
    ...(number === 0 ? { style: terminal.colors.dim } : style && { style }),
  })
  const { oldestMs } = topic
  return [
    { text: topic.topic },
    count(topic.waiting),
    { text: oldestMs === undefined ? '' : formatDuration(oldestMs), align: 'end' },
    count(topic.deferred),
    count(topic.retrying, stateStyle('retrying', terminal)),
    count(topic.active),
    count(topic.dead, stateStyle('dead', terminal)),
    count(topic.done),
  ]
}

function messageHeading(messages: readonly OutboxMessage[], { colors: { dim } }: Terminal): Cell[] {
  const zone = messages.map(({ sent }) => localTime(sent.timeMs)?.zone).find((known) => known !== undefined)
  const sent = zone === undefined ? 'sent' : `sent, ${zone}`
  return ['message', 'topic', 'state', 'tries', sent].map((text) => ({ text, style: dim }))
}

function messageRow(message: OutboxMessage, terminal: Terminal): Cell[] {
  const style = stateStyle(message.state, terminal)
  const local = localTime(message.sent.timeMs)
  return [
    { text: message.id, style: terminal.colors.bold },
    { text: message.topic },
    { text: message.state, ...(style && { style }) },
    { text: `${message.attempts}/${message.maxAttempts}` },
    { text: local === undefined ? '' : `${local.date} ${local.time.slice(0, 8)}` },
  ]
}
