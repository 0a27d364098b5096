/** One message's story, for people: what sent it, each attempt, and how it stands. */
import type { FailedAttempt } from '../../outbox/message.js'
import type { OutboxMessage } from '../../outbox/message-rows.js'
import { spanContextOf } from '../../telemetry/sdk-pieces.js'
import { columnWidths, GAP, inColumns } from '../terminal/columns.js'
import { formatDuration } from '../terminal/durations.js'
import { paint, type Segment } from '../terminal/paint.js'
import { printable } from '../terminal/printable.js'
import type { Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'
import { stateStyle } from './render-outbox.js'

interface Event {
  timeMs: number | undefined
  what: Segment
  /** There to be pasted: never cut. */
  traceId?: string | undefined
  remark?: Segment
}

const INDENT = '    '

/** The whole text, with a line end at its end. */
export function renderMessage(message: OutboxMessage, withPayload: boolean, terminal: Terminal): string {
  const { colors } = terminal
  const field = (label: string, segment: Segment) =>
    paint([{ text: label.padEnd(13), style: colors.dim }, segment], Number.POSITIVE_INFINITY, terminal).text
  const { sent, orderKey } = message
  const style = stateStyle(message.state, terminal)
  const lines = [
    field('message', { text: message.messageId, style: colors.bold }),
    ...(message.id === message.messageId ? [] : [field('entry', { text: message.id })]),
    field('topic', { text: message.topic }),
    field('state', { text: stateText(message), ...(style && { style }) }),
    ...(sent.correlationId === undefined ? [] : [field('correlation', { text: sent.correlationId })]),
    ...(orderKey === undefined ? [] : [field('order key', { text: orderKey })]),
    ...(withPayload ? [`${colors.dim('payload'.padEnd(13))}${payloadText(message.payload)}`] : []),
    '',
    ...eventLines(eventsOf(message, terminal), terminal),
    ...hintsOn(message).map(
      (text) => paint([{ text, style: colors.dim }], Number.POSITIVE_INFINITY, terminal).text,
    ),
  ]
  return `${lines.join('\n')}\n`
}

// Whole, however long: it was asked for.
function payloadText(payload: unknown): string {
  return printable(JSON.stringify(payload) ?? 'none')
}

function stateText({ state, attempts, maxAttempts }: OutboxMessage): string {
  const tries = attempts === 1 ? '1 attempt' : `${attempts} attempts`
  if (state === 'waiting' || state === 'deferred') return attempts === 0 ? state : `${state}, after ${tries}`
  return state === 'retrying'
    ? `retrying, after ${attempts} of ${maxAttempts} attempts`
    : `${state}, after ${tries}`
}

function eventsOf(message: OutboxMessage, terminal: Terminal): Event[] {
  const { colors } = terminal
  const { sent, failed, done, state, startedMs } = message
  const by = sent.action === undefined ? '' : ` by ${sent.action}`
  const events: Event[] = [
    { timeMs: sent.timeMs, what: { text: `sent${by}` }, traceId: traceIdOf(sent.traceparent) },
  ]
  let before = 0
  for (const attempt of failed) {
    events.push(...silentAttempts(before, attempt.attempt, terminal), failedEvent(attempt, terminal))
    before = attempt.attempt
  }
  const isUnderWay = state === 'active' || state === 'done'
  events.push(...silentAttempts(before, message.attempts + (isUnderWay ? 0 : 1), terminal))
  if (state === 'active')
    events.push({ timeMs: startedMs, what: { text: `attempt ${message.attempts} is under way` } })
  if (done !== undefined)
    events.push({
      timeMs: done.timeMs,
      what: { text: `attempt ${message.attempts} handled it`, style: colors.green },
      traceId: traceIdOf(done.traceparent),
    })
  if ((state === 'retrying' || state === 'deferred') && message.startAfterMs > Date.now())
    events.push({ timeMs: message.startAfterMs, what: { text: 'to be tried', style: colors.dim } })
  return events
}

function failedEvent(
  { attempt, type, message, at, traceparent }: FailedAttempt,
  { colors, glyphs }: Terminal,
): Event {
  return {
    timeMs: Date.parse(at) || undefined,
    what: { text: attempt === 0 ? 'attempt failed' : `attempt ${attempt} failed`, style: colors.red },
    traceId: traceIdOf(traceparent),
    remark: { text: `${glyphs.cross} ${type}: ${message}`, style: colors.red },
  }
}

/** Attempts between two that are known: whoever made them was killed, or did not reach the database. */
function silentAttempts(before: number, next: number, { colors }: Terminal): Event[] {
  const silent: Event[] = []
  for (let attempt = before + 1; attempt < next; attempt += 1)
    silent.push({
      timeMs: undefined,
      what: {
        text: `attempt ${attempt} left no word: its worker was ended, or it lasted too long`,
        style: colors.yellow,
      },
    })
  return silent
}

function eventLines(events: readonly Event[], terminal: Terminal): string[] {
  const rows = events.map(({ timeMs, what }) => [{ text: timeText(timeMs) }, what])
  const [timeWidth = 0] = columnWidths(rows)
  const whatWidth = Math.max(
    0,
    ...events.filter(({ traceId }) => traceId !== undefined).map(({ what }) => what.text.length),
  )
  return events.flatMap(({ traceId, remark }, index) => {
    const row = rows[index] ?? []
    const isWide = traceId === undefined
    const label = isWide
      ? [...inColumns(row.slice(0, 1), [timeWidth], terminal), { text: GAP }, row[1] ?? { text: '' }]
      : inColumns(row, [timeWidth, whatWidth], terminal)
    const tail = isWide ? [] : [{ text: `${GAP}trace `, style: terminal.colors.dim }, { text: traceId }]
    const line = paint([...label, ...tail], Number.POSITIVE_INFINITY, terminal).text.trimEnd()
    if (remark === undefined) return [line]
    return [line, paint([{ text: INDENT }, remark], terminal.width, terminal).text]
  })
}

function timeText(timeMs: number | undefined): string {
  const local = timeMs === undefined ? undefined : localTime(timeMs)
  return local === undefined ? '' : `${local.date} ${local.time} ${local.zone}`
}

function traceIdOf(traceparent: string | undefined): string | undefined {
  return spanContextOf(traceparent)?.traceId
}

function hintsOn({ id, state, sent, startedMs }: OutboxMessage): string[] {
  const hints: string[] = []
  if (state === 'active' && startedMs !== undefined)
    hints.push(`Under way for ${formatDuration(Math.max(0, Date.now() - startedMs))}.`)
  if (state === 'dead')
    hints.push(
      `Try it again: throughline outbox redrive ${id}`,
      `Delete it:    throughline outbox discard ${id}`,
    )
  if (sent.correlationId !== undefined) hints.push(`All of it:    throughline trace ${sent.correlationId}`)
  return hints.length === 0 ? [] : ['', ...hints]
}
