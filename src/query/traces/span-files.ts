/**
 * Spans back from OTLP/JSON lines (`<directory>/traces/*.ndjson`), ours or the OTel collector's file
 * exporter's. Mapping: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
import { join } from 'node:path'
import { TRACES_FOLDER } from '../../telemetry/local-directory.js'
import { asObject, asText, type JsonObject, objectsOf, parseObject } from '../files/loose-json.js'
import type { ReadOptions } from '../files/ndjson-files.js'
import { readFolder } from '../files/sources.js'

/** 64-bit integers beyond the safe range, and bytes (base64), stay strings. */
export type AttributeValue =
  | string
  | number
  | boolean
  | null
  | AttributeValue[]
  | { [name: string]: AttributeValue }

export type Attributes = { [name: string]: AttributeValue }

/** One span as it was written. */
export interface StoredSpan {
  /** 32 lower-case hex digits. */
  traceId: string
  /** 16 lower-case hex digits. */
  spanId: string
  parentSpanId?: string
  /** True when the parent is known to be in another process. */
  isParentRemote: boolean
  name: string
  kind: SpanKind
  /** `service.name` of the resource. */
  service?: string
  /** Epoch milliseconds, with a fraction good to a quarter of a microsecond. */
  startTimeMs: number
  durationMs: number
  status: SpanStatus
  statusMessage?: string
  attributes: Attributes
  events: SpanEvent[]
  links: SpanLink[]
}

export interface SpanEvent {
  name: string
  /** Epoch milliseconds. */
  timeMs: number
  attributes: Attributes
}

export interface SpanLink {
  traceId: string
  spanId: string
  attributes: Attributes
}

const KINDS = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'] as const
export type SpanKind = (typeof KINDS)[number]

const STATUSES = ['unset', 'ok', 'error'] as const
export type SpanStatus = (typeof STATUSES)[number]

/** Spans in the order they were written: children before parents. */
export async function* readSpans(directory: string, options: ReadOptions = {}): AsyncGenerator<StoredSpan> {
  for await (const line of readFolder(join(directory, TRACES_FOLDER), options)) {
    const request = parseObject(line)
    if (request === undefined) {
      if (options.tally !== undefined) options.tally.unreadableLines += 1
    } else yield* spansOfRequest(request)
  }
}

/** The spans of one `ExportTraceServiceRequest`. */
function* spansOfRequest(request: JsonObject): Generator<StoredSpan> {
  for (const resourceSpans of objectsOf(request.resourceSpans)) {
    const resource = attributesOf(asObject(resourceSpans.resource)?.attributes)
    const service = asText(resource['service.name'])
    for (const scopeSpans of objectsOf(resourceSpans.scopeSpans)) {
      for (const span of objectsOf(scopeSpans.spans)) {
        const stored = storedSpan(span, service)
        if (stored !== undefined) yield stored
      }
    }
  }
}

function storedSpan(span: JsonObject, service: string | undefined): StoredSpan | undefined {
  const traceId = idOf(span.traceId)
  const spanId = idOf(span.spanId)
  if (traceId === undefined || spanId === undefined) return undefined
  const parentSpanId = idOf(span.parentSpanId)
  const status = asObject(span.status)
  const statusMessage = asText(status?.message)
  const startNano = nanoseconds(span.startTimeUnixNano)
  const endNano = nanoseconds(span.endTimeUnixNano)
  return {
    traceId,
    spanId,
    ...(parentSpanId === undefined ? {} : { parentSpanId }),
    isParentRemote: isParentRemote(span.flags),
    name: asText(span.name) ?? '(no name)',
    kind: enumOf(KINDS, 'SPAN_KIND_', span.kind),
    ...(service === undefined ? {} : { service }),
    startTimeMs: milliseconds(startNano),
    durationMs: endNano > startNano ? milliseconds(endNano - startNano) : 0,
    status: enumOf(STATUSES, 'STATUS_CODE_', status?.code),
    ...(statusMessage === undefined ? {} : { statusMessage }),
    attributes: attributesOf(span.attributes),
    events: objectsOf(span.events).map((event) => ({
      name: asText(event.name) ?? '(no name)',
      timeMs: milliseconds(nanoseconds(event.timeUnixNano)),
      attributes: attributesOf(event.attributes),
    })),
    links: objectsOf(span.links).flatMap((link) => {
      const [linkedTraceId, linkedSpanId] = [idOf(link.traceId), idOf(link.spanId)]
      if (linkedTraceId === undefined || linkedSpanId === undefined) return []
      return [{ traceId: linkedTraceId, spanId: linkedSpanId, attributes: attributesOf(link.attributes) }]
    }),
  }
}

function idOf(value: unknown): string | undefined {
  return asText(value)?.toLowerCase()
}

// Bits 8 and 9 of OTLP's span flags: "has is_remote" and "is_remote", of the parent.
function isParentRemote(flags: unknown): boolean {
  return typeof flags === 'number' && (flags & 0x300) === 0x300
}

/** A protobuf enum: its number, or its name, which the JSON mapping allows. */
function enumOf<T extends string>(names: readonly [T, ...T[]], prefix: string, value: unknown): T {
  const byName = (name: T) => value === prefix + name.toUpperCase()
  return (typeof value === 'number' ? names[value] : names.find(byName)) ?? names[0]
}

/** A 64-bit integer: a decimal string by the specification, a number by many writers. */
function nanoseconds(value: unknown): bigint {
  if (typeof value === 'string' && /^\d{1,20}$/.test(value)) return BigInt(value)
  return typeof value === 'number' && value > 0 && Number.isFinite(value) ? BigInt(Math.round(value)) : 0n
}

// Whole milliseconds and the rest apart: nanoseconds since 1970 have more digits than a number keeps.
function milliseconds(nano: bigint): number {
  return Number(nano / 1_000_000n) + Number(nano % 1_000_000n) / 1e6
}

function attributesOf(value: unknown): Attributes {
  return keyValues(value, 0)
}

function keyValues(value: unknown, depth: number): Attributes {
  // `fromEntries` defines, so that an attribute named `__proto__` is an attribute and nothing more.
  return Object.fromEntries(
    objectsOf(value).flatMap((pair) => {
      const key = asText(pair.key)
      return key === undefined ? [] : [[key, anyValue(asObject(pair.value), depth)]]
    }),
  )
}

/** Deeper values are cut: a stranger's nesting must not overflow our stack. */
const MAX_DEPTH = 16

function anyValue(value: JsonObject | undefined, depth: number): AttributeValue {
  if (value === undefined || depth > MAX_DEPTH) return null
  const { stringValue, boolValue, intValue, doubleValue, bytesValue } = value
  if (typeof stringValue === 'string') return stringValue
  if (typeof boolValue === 'boolean') return boolValue
  if (typeof intValue === 'number') return intValue
  if (typeof intValue === 'string') {
    const integer = Number(intValue)
    return Number.isSafeInteger(integer) ? integer : intValue
  }
  // `"NaN"` and `"Infinity"` come as strings.
  if (typeof doubleValue === 'number' || typeof doubleValue === 'string') return doubleValue
  if (typeof bytesValue === 'string') return bytesValue
  const array = asObject(value.arrayValue)
  if (array !== undefined) return objectsOf(array.values).map((item) => anyValue(item, depth + 1))
  const list = asObject(value.kvlistValue)
  return list === undefined ? null : keyValues(list.values, depth + 1)
}
