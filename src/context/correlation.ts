/**
 * The correlation rule: which ID a request gets. Pure; applied once per request.
 *
 *   1. a correlation header that passes validation
 *   2. else the trace ID of a valid `traceparent`
 *   3. else a fresh 32-hex ID, which also becomes the request's trace ID
 */

/** Read when no other list is configured, and the name of the response header. */
export const DEFAULT_CORRELATION_HEADER = 'x-correlation-id'

/** Longest correlation ID accepted, in characters. */
export const MAX_CORRELATION_ID_LENGTH = 128

/** Where a correlation ID came from. */
export type CorrelationSource = 'header' | 'traceparent' | 'generated'

/** One request's identity. */
export interface Correlation {
  /** 1–128 characters of `[A-Za-z0-9._:=+/@-]`: safe in a header, a log line and an SQL comment. */
  correlationId: string
  /** 32 lower-case hex digits. Equal to the correlation ID unless a caller chose another ID. */
  traceId: string
  source: CorrelationSource
  /** True when a correlation header was sent but refused. Its value is never kept. */
  isHeaderRefused: boolean
}

/** Reads one request header; several values of one name come joined by a comma, as Node and Fetch do it. */
export type HeaderReader = (name: string) => string | string[] | null | undefined

/** True for a value that may be used, echoed and logged as a correlation ID. */
export function isCorrelationId(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length <= MAX_CORRELATION_ID_LENGTH &&
    /^[A-Za-z0-9._:=+/@-]+$/.test(value)
  )
}

/**
 * Applies the rule above.
 *
 * @param readHeader reads a header by its lower-case name
 * @param correlationHeaders names to look at, in order; the first that was sent decides
 * @param createTraceId 32 lower-case hex digits, not all zero
 */
export function resolveCorrelation(
  readHeader: HeaderReader,
  correlationHeaders: readonly string[] = [DEFAULT_CORRELATION_HEADER],
  createTraceId: () => string = randomTraceId,
): Correlation {
  const inboundTraceId = traceIdOf(readHeader('traceparent'))
  let isHeaderRefused = false
  for (const name of correlationHeaders) {
    const value = readHeader(name)
    if (value === undefined || value === null) continue
    if (isCorrelationId(value)) {
      return {
        correlationId: value,
        traceId: inboundTraceId ?? createTraceId(),
        source: 'header',
        isHeaderRefused: false,
      }
    }
    isHeaderRefused = true
    break
  }
  if (inboundTraceId !== undefined) {
    return { correlationId: inboundTraceId, traceId: inboundTraceId, source: 'traceparent', isHeaderRefused }
  }
  const traceId = createTraceId()
  return { correlationId: traceId, traceId, source: 'generated', isHeaderRefused }
}

/**
 * The trace ID of a valid W3C `traceparent`, else undefined.
 * Version `ff`, an all-zero ID, upper case and, in version 00, trailing fields are invalid
 * (https://www.w3.org/TR/trace-context/#traceparent-header).
 */
function traceIdOf(traceparent: string | string[] | null | undefined): string | undefined {
  if (typeof traceparent !== 'string') return undefined
  const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$/.exec(traceparent.trim())
  if (match === null) return undefined
  const [, version, traceId, parentId, rest] = match
  if (version === 'ff' || (version === '00' && rest !== undefined)) return undefined
  if (traceId === '0'.repeat(32) || parentId === '0'.repeat(16)) return undefined
  return traceId
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** A fresh trace ID: 32 lower-case hex digits from the platform's secure source, never all zero. */
export function randomTraceId(): string {
  return randomHex(16)
}

/** A fresh span ID: 16 lower-case hex digits, never all zero. */
export function randomSpanId(): string {
  return randomHex(8)
}

// A call of the secure source costs more than an ID is worth, so random bytes are drawn in advance.
const RANDOM_BYTES = new Uint8Array(4096)
let usedBytes = RANDOM_BYTES.length

function randomHex(bytes: number): string {
  if (usedBytes + bytes > RANDOM_BYTES.length) {
    crypto.getRandomValues(RANDOM_BYTES)
    usedBytes = 0
  }
  let hex = ''
  for (const end = usedBytes + bytes; usedBytes < end; usedBytes++) hex += HEX[RANDOM_BYTES[usedBytes] ?? 0]
  return /^0+$/.test(hex) ? randomHex(bytes) : hex
}
