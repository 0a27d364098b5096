/**
 * A log line's fields by the names that they have as a log record of OpenTelemetry, whose values a store keeps as texts.
 * https://opentelemetry.io/docs/specs/otel/logs/data-model/
 */
import { LOG_FIELD } from '../../telemetry/names.js'
import { type FieldPath, LEVEL_FIELD, LEVELS, TIME_FIELD } from './ast.js'
import type { Leaf } from './bounds.js'
import { type LogEntry, matcherOf } from './match.js'

/** What a record has beside its attributes. */
export type RecordField = 'time' | 'level' | 'body' | 'service' | 'traceId' | 'spanId' | 'flags'

const RECORD_FIELDS: Readonly<Record<string, RecordField>> = {
  [TIME_FIELD]: 'time',
  [LEVEL_FIELD]: 'level',
  msg: 'body',
  [LOG_FIELD.service]: 'service',
  [LOG_FIELD.traceId]: 'traceId',
  [LOG_FIELD.spanId]: 'spanId',
  [LOG_FIELD.traceFlags]: 'flags',
}

/** Undefined for an attribute. */
export function recordFieldOf(field: FieldPath): RecordField | undefined {
  return field.length === 1 && Object.hasOwn(RECORD_FIELDS, field[0]) ? RECORD_FIELDS[field[0]] : undefined
}

/** https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-logs/ */
const EXCEPTION_PARTS: Readonly<Record<string, string>> = {
  type: 'exception.type',
  message: 'exception.message',
  stack: 'exception.stacktrace',
}

const ERROR_FIELDS = new Map(
  Object.entries(EXCEPTION_PARTS).map(([part, attribute]) => [attribute, `${LOG_FIELD.error}.${part}`]),
)

/** The attributes that a field may stand in: the first that the record has is it. */
export function attributesOf(field: FieldPath): [string, ...string[]] {
  const name = field.join('.')
  const [first, part = ''] = field
  const isException = first === LOG_FIELD.error && field.length === 2 && Object.hasOwn(EXCEPTION_PARTS, part)
  return isException ? [EXCEPTION_PARTS[part] as string, name] : [name]
}

/** Fields that are objects in a line of ours, and attributes each in a record. */
const OBJECTS: readonly string[] = [LOG_FIELD.error, LOG_FIELD.idempotency]

/** True for what may be such an object, or in one. */
export function isInObject(field: FieldPath): boolean {
  return OBJECTS.some((name) => field[0] === name || field[0].startsWith(`${name}.`)) || isException(field)
}

function isException(field: FieldPath): boolean {
  return ERROR_FIELDS.has(field.join('.'))
}

/** The entry with an attribute in its place: `idempotency.hit` in `idempotency`, any other under its own name. */
export function putAttribute(entry: Record<string, unknown>, attribute: string, value: string): void {
  const name = ERROR_FIELDS.get(attribute) ?? attribute
  const path = name.split('.')
  if (!OBJECTS.includes(path[0] as string) || !putNested(entry, path, value)) entry[name] = value
}

/** False where another value stands in the way. */
function putNested(entry: Record<string, unknown>, path: readonly string[], value: string): boolean {
  let object = entry
  for (const name of path.slice(0, -1)) {
    if (!Object.hasOwn(object, name)) define(object, name, {})
    const inner = object[name]
    if (typeof inner !== 'object' || inner === null) return false
    object = inner as Record<string, unknown>
  }
  const last = path.at(-1) as string
  if (typeof object[last] === 'object') return false
  define(object, last, value)
  return true
}

// `__proto__` is a name as any other.
function define(object: Record<string, unknown>, name: string, value: unknown): void {
  Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true })
}

const LEVEL_NUMBERS = Object.values(LEVELS)

/** OTel has four numbers a level, from 1 to 24. */
const NUMBERS_PER_LEVEL = 4
const SEVERITIES: readonly number[] = Array.from(
  { length: LEVEL_NUMBERS.length * NUMBERS_PER_LEVEL },
  (_, index) => index + 1,
)

/** pino's number; undefined for a record that says no level. */
export function levelOf(severityNumber: number, severityText: string): number | undefined {
  const byNumber = LEVEL_NUMBERS[Math.floor((severityNumber - 1) / NUMBERS_PER_LEVEL)]
  if (byNumber !== undefined) return byNumber
  const name = severityText.toLowerCase()
  return Object.hasOwn(LEVELS, name) ? LEVELS[name] : undefined
}

/** The severities of the records for which a comparison of the level holds. */
export function severitiesFor(leaf: Leaf): { numbers: number[]; names: string[] } {
  const matches = matcherOf(leaf)
  const isFor = (level: number | undefined) => matches({ [LEVEL_FIELD]: level } satisfies LogEntry)
  return {
    numbers: SEVERITIES.filter((number) => isFor(levelOf(number, ''))),
    names: Object.keys(LEVELS).filter((name) => isFor(levelOf(0, name))),
  }
}
