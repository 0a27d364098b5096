/** The list of traces, for people. */
import type { FoundTraces } from '../../query/traces/list-traces.js'
import type { TraceSummary } from '../../query/traces/trace-summary.js'
import { type Cell, columnWidths, GAP, inColumns } from '../terminal/columns.js'
import { formatDuration } from '../terminal/durations.js'
import { paint, type Segment, safeText } from '../terminal/paint.js'
import { startOfWidth } from '../terminal/printable.js'
import type { Terminal } from '../terminal/terminal.js'
import { localTime } from '../terminal/times.js'
import { unreadableNote } from '../terminal/unreadable-note.js'

/** A request gets no less than this many cells: IDs are cut first. */
const MIN_REQUEST_WIDTH = 22

/** An ID that does not fit is cut to this: `throughline trace` takes its first 6 characters. */
const CUT_ID_WIDTH = 12
const MIN_ID_WIDTH = 8

/** Bars come after what a request needs, up to so many cells. */
const FULL_REQUEST_WIDTH = 40
const MIN_BAR_WIDTH = 8
const MAX_BAR_WIDTH = 20

/** Below this many cells a line has no room for the number of spans. */
const MIN_WIDTH_FOR_SPANS = 72

/** The whole text, with a line end at its end. */
export function renderTraces(found: FoundTraces, terminal: Terminal): string {
  const { traces } = found
  const rows = [headingOf(traces, terminal), ...traces.map(rowWriter(traces, terminal))]
  const notes = notesOn(found).map((text) => [{ text, style: terminal.colors.yellow }])
  const lines = [...tableLines(rows, terminal), ...(notes.length > 0 ? [[]] : []), ...notes]
  return `${lines.map((line) => paint(line, terminal.width, terminal).text.trimEnd()).join('\n')}\n`
}

interface TraceRow {
  /** The time, the duration, and what stands right of the bars. */
  columns: [Cell, Cell, ...Cell[]]
  id: Cell
  /** 0 to 1, of the longest. */
  share: number
  barStyle?: (text: string) => string
  /** Last, for a narrow terminal cuts its end. */
  request: Segment[]
}

function headingOf(traces: readonly TraceSummary[], terminal: Terminal): TraceRow {
  const { dim } = terminal.colors
  const first = localTime(traces[0]?.startTimeMs ?? 0)
  const zone = first?.zone ?? 'time'
  return {
    columns: [
      { text: isOneDay(traces) ? `${first?.date.slice(MONTH)}, ${zone}` : zone, style: dim },
      { text: 'duration', style: dim, align: 'end' },
      ...spansCell('spans', terminal, dim),
      { text: '' },
    ],
    id: { text: 'correlation ID', style: dim },
    share: 0,
    request: [{ text: 'request', style: dim }],
  }
}

function rowWriter(traces: readonly TraceSummary[], terminal: Terminal): (trace: TraceSummary) => TraceRow {
  const { colors } = terminal
  const timeText = timeTexts(traces)
  const longestMs = Math.max(...traces.map(({ durationMs }) => durationMs))
  return (trace) => {
    const { durationMs, correlationId, traceId, errors, hits, isRace } = trace
    const style = errors > 0 ? colors.red : hits > 0 || isRace ? colors.yellow : colors.cyan
    return {
      columns: [
        { text: timeText(trace.startTimeMs) },
        { text: formatDuration(durationMs), align: 'end' },
        ...spansCell(String(trace.spans), terminal),
        { text: marksOf(trace, terminal), style },
      ],
      id: { text: correlationId ?? traceId, style: colors.bold },
      share: longestMs > 0 ? durationMs / longestMs : 1,
      barStyle: style,
      request: requestSegments(trace, terminal),
    }
  }
}

function spansCell(text: string, { width }: Terminal, style?: (text: string) => string): Cell[] {
  return width < MIN_WIDTH_FOR_SPANS ? [] : [{ text, align: 'end', ...(style && { style }) }]
}

/** `⚑` a key that was used again, or missed by two at once; `✗` a span that failed. */
function marksOf({ errors, hits, isRace }: TraceSummary, { glyphs }: Terminal): string {
  return (hits > 0 || isRace ? glyphs.flag : '') + (errors > 0 ? glyphs.cross : '')
}

/** A bar after the duration when there is room for all else. */
function tableLines(rows: readonly TraceRow[], terminal: Terminal): Segment[][] {
  const [timeWidth = 0, durationWidth = 0, ...widths] = columnWidths(rows.map(({ columns }) => columns))
  const [widestId = 0] = columnWidths(rows.map(({ id }) => [id]))
  const columns = [timeWidth, durationWidth, ...widths]
  const room = terminal.width - columns.reduce((sum, width) => sum + width + GAP.length, 0) - GAP.length
  const roomForId = room - MIN_REQUEST_WIDTH
  const cutIdWidth = Math.max(MIN_ID_WIDTH, Math.min(CUT_ID_WIDTH, roomForId))
  const idWidth = widestId <= roomForId ? widestId : Math.min(widestId, cutIdWidth)
  const widestRequest = Math.max(
    ...rows.map(({ request }) => paint(request, Number.POSITIVE_INFINITY, terminal).width),
  )
  const roomForBar = room - idWidth - GAP.length - Math.min(widestRequest, FULL_REQUEST_WIDTH)
  const barWidth = roomForBar < MIN_BAR_WIDTH ? 0 : Math.min(MAX_BAR_WIDTH, roomForBar)
  const [barWidths, allWidths] = [barWidth > 0 ? [barWidth] : [], [timeWidth, durationWidth]]
  allWidths.push(...barWidths, ...widths, idWidth)
  return rows.map(({ columns: [time, duration, ...others], id, share, barStyle, request }) => {
    const bar: Cell = { text: barText(share, barWidth, terminal), ...(barStyle && { style: barStyle }) }
    // Without a mark where it is cut: what is there can be pasted.
    const shownId = { ...id, text: startOfWidth(safeText(id.text), idWidth) }
    const cells = [time, duration, ...barWidths.map(() => bar), ...others, shownId]
    return [...inColumns(cells, allWidths, terminal), { text: GAP }, ...request]
  })
}

function barText(share: number, width: number, { glyphs }: Terminal): string {
  if (share === 0) return ''
  const cells = share * width
  return cells < 0.5 ? glyphs.shortBar : glyphs.bar.repeat(Math.round(cells))
}

/** `POST /checkout 303 · createOrder`, `process payment.charge · attempt 2 · retried`. */
function requestSegments(trace: TraceSummary, { colors, glyphs }: Terminal): Segment[] {
  const { name, method, route, status, action, outcome, topic, attempt, isRace, isComplete } = trace
  const request = method !== undefined && route !== undefined ? `${method} ${route}` : name
  const isMessage = topic !== undefined
  const parts: Segment[] = []
  // A message bears the name of the action that sent it.
  if (!isMessage && action !== undefined) parts.push({ text: action, style: colors.cyan })
  if (attempt !== undefined && attempt > 1) parts.push({ text: `attempt ${attempt}`, style: colors.yellow })
  if (isRace) parts.push({ text: 'race', style: colors.red })
  if (!isComplete) parts.push({ text: 'its first span is not written', style: colors.yellow })
  if (outcome !== undefined && outcome !== (isMessage ? 'handled' : 'ok'))
    parts.push({ text: outcome, style: colors.dim })
  return [
    { text: request },
    ...(status === undefined ? [] : [{ text: ` ${status}`, ...statusStyle(status, colors) }]),
    ...parts.flatMap((part) => [{ text: ` ${glyphs.separator} `, style: colors.dim }, part]),
  ]
}

function statusStyle(status: number, { red, yellow, dim }: Terminal['colors']): Pick<Segment, 'style'> {
  return { style: status >= 500 ? red : status >= 400 ? yellow : dim }
}

function isOneDay(traces: readonly TraceSummary[]): boolean {
  return daysOf(traces, 'yyyy-mm-dd'.length).size === 1
}

/** What is the same for all is not said: the day stands in the heading, the year nowhere. */
function timeTexts(traces: readonly TraceSummary[]): (timeMs: number) => string {
  const from = daysOf(traces, 'yyyy'.length).size === 1 ? MONTH : 0
  const isSameDay = isOneDay(traces)
  return (timeMs) => {
    const local = localTime(timeMs)
    if (local === undefined) return 'not a time'
    return isSameDay ? local.time : `${local.date.slice(from)} ${local.time.slice(0, 8)}`
  }
}

/** Where the month begins in `2026-11-24`. */
const MONTH = 5

function daysOf(traces: readonly TraceSummary[], length: number): Set<string | undefined> {
  return new Set(traces.map(({ startTimeMs }) => localTime(startTimeMs)?.date.slice(0, length)))
}

function notesOn({ traces, total, leftOut, unreadableLines }: FoundTraces): string[] {
  const more = total - traces.length
  return [
    ...(more > 0 ? [`${more} more: -n ${total} shows all.`] : []),
    ...(leftOut > 0 ? [`There is more than fits: at least ${leftOut} older traces are left out.`] : []),
    ...(unreadableLines > 0 ? [unreadableNote(unreadableLines)] : []),
  ]
}
