/** Log lines for people: time, level, the request's ID in a colour of its own, message, fields, and the stack below. */
import type { FieldPath } from '../../query/filter/ast.js'
import { type LogEntry, valueAt } from '../../query/filter/match.js'
import { printField } from '../../query/filter/print.js'
import { storedLog } from '../../query/logs/log-files.js'
import { linkStyle } from '../terminal/jaeger-link.js'
import { paint, type Segment } from '../terminal/paint.js'
import type { Colors, Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'
import { shownFields, valueText } from './log-fields.js'

/** Digits of an ID that are shown: enough to tell the requests on a screen apart. */
const ID_DIGITS = 8

const LEVEL_WIDTH = 5

const INDENT = '    '

/** Fewer frames of others are shown. */
const MIN_FOLDED = 3

/** The whole text, with a line end at its end: the line, and the stack of its error on lines of their own. */
export function renderLog(
  entry: LogEntry,
  fields: readonly FieldPath[] | undefined,
  terminal: Terminal,
): string {
  const log = storedLog(entry)
  const { colors } = terminal
  const local = log.timeMs === undefined ? undefined : localTime(log.timeMs)
  const id = log.correlationId ?? log.traceId ?? ''
  const shown = fields === undefined ? shownFields(withoutRepeats(log.fields)) : chosenFields(entry, fields)
  const style = levelStyle(log.level, colors)
  const segments: Segment[] = [
    { text: local === undefined ? '' : `${local.date} ${local.time}  `, style: colors.dim },
    { text: log.level.padEnd(LEVEL_WIDTH), ...(style && { style }) },
    { text: '  ' },
    {
      text: id.slice(0, ID_DIGITS),
      style: (text) => linkStyle(log.traceId, terminal)(idStyle(id, colors)(text)),
    },
    { text: ' '.repeat(Math.max(0, ID_DIGITS - id.length)) },
    { text: `  ${log.message}`, ...(style && { style }) },
    { text: shown.length === 0 ? '' : `  ${shown.join(' ')}`, style: colors.dim },
  ]
  const lines = [segments, ...stackLines(log.fields.err, colors, terminal.glyphs)]
  return lines.map((line) => `${paint(line, Number.POSITIVE_INFINITY, terminal).text.trimEnd()}\n`).join('')
}

/** The stack below has the type and the message of its error in its first line. */
function withoutRepeats(fields: LogEntry): LogEntry {
  const { type, message, stack, ...others } = (fields.err ?? {}) as Record<string, unknown>
  const isRepeated = [type, message].every((text) => typeof text === 'string' && String(stack).includes(text))
  return isRepeated ? { ...fields, err: others } : fields
}

function chosenFields(entry: LogEntry, fields: readonly FieldPath[]): string[] {
  return fields.flatMap((path) => {
    const value = valueAt(entry, path)
    return value === undefined ? [] : [`${printField(path)}=${valueText(value)}`]
  })
}

function stackLines(error: unknown, colors: Colors, { ellipsis }: Terminal['glyphs']): Segment[][] {
  const { stack } = (error ?? {}) as { stack?: unknown }
  if (typeof stack !== 'string') return []
  const lines = stack.split('\n').filter((line) => line.trim() !== '')
  return foldFrames(lines, ellipsis).map((line) => [
    {
      text: INDENT + line.trim(),
      style: /^\s*at /.test(line) || line.startsWith(ellipsis) ? colors.dim : colors.red,
    },
  ])
}

/** Frames of packages and of Node that follow one another, as one line: what the app did stands between them. */
function foldFrames(lines: readonly string[], ellipsis: string): string[] {
  const folded: string[] = []
  let others: string[] = []
  const fold = () => {
    const owners = [...new Set(others.map((line) => ownerOf(line) ?? ''))]
    if (others.length < MIN_FOLDED) folded.push(...others)
    else folded.push(`${ellipsis} ${others.length} frames of ${owners.join(', ')}`)
    others = []
  }
  for (const line of lines) {
    if (ownerOf(line) !== undefined) {
      others.push(line)
      continue
    }
    fold()
    folded.push(line)
  }
  fold()
  return folded
}

/** `next`, `@opentelemetry/api`, `node`; undefined for a frame of the app, and for what is no frame. */
function ownerOf(line: string): string | undefined {
  if (!/^\s*at /.test(line)) return undefined
  if (/[( ]node:/.test(line)) return 'node'
  return /.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(line)?.[1]
}

function levelStyle(level: string, colors: Colors): ((text: string) => string) | undefined {
  if (level === 'error' || level === 'fatal') return colors.red
  if (level === 'warn') return colors.yellow
  return level === 'info' ? undefined : colors.dim
}

/** The same ID has the same colour, wherever it stands. */
function idStyle(id: string, colors: Colors): (text: string) => string {
  const palette = [
    colors.cyan,
    colors.magenta,
    colors.blue,
    colors.green,
    colors.cyanBright,
    colors.magentaBright,
  ]
  let sum = 0
  for (const character of id) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) >>> 0
  return palette[sum % palette.length] ?? colors.dim
}
