/**
 * Blanks what a log line may carry by accident. Fields are known by their name, at any depth that is written.
 *
 * pino's `redact` takes paths, and a wildcard path walks and copies the line: the two levels that would cover
 * less than this took 50 µs a line, twenty times the line itself (pino 10.4). Its paths stay available as the
 * `redact` option, for fields that have no telling name.
 */

import { LOG_FIELD } from '../telemetry/names.js'
import { errorFields } from './error-fields.js'

/** Names of secret fields, in lower case without `-` and `_`. */
const SECRET_FIELDS = new Set([
  'authorization',
  'cookie',
  'setcookie',
  'password',
  'passwd',
  'secret',
  'token',
  'accesstoken',
  'refreshtoken',
  'apikey',
  'xapikey',
  'idempotencykey',
])

/** What stands where a secret was. */
export const CENSOR = '[redacted]'

/** Levels of an object that are written; pino sets no bound where there is no cycle. */
const MAX_DEPTH = 6

/** Objects of one line that are looked at: a socket or a request, logged by mistake, holds tens of thousands. */
const MAX_OBJECTS = 5000

type Fields = Record<string, unknown>

/** One line's way through its fields. */
interface Walk {
  /** The objects around the one that is looked at. */
  around: object[]
  objectsLeft: number
}

/**
 * Returns the fields as they are or, where there are secrets, a copy in which they are blanked. Errors under
 * any name but `err` become their named fields, and what is too deep, too much or a cycle is cut.
 */
export function redactSecrets(fields: Fields): Fields {
  return redactFields(fields, { around: [], objectsLeft: MAX_OBJECTS }, true)
}

function redactFields(fields: Fields, walk: Walk, isTop = false): Fields {
  let copy: Fields | undefined
  walk.around.push(fields)
  for (const name of Object.keys(fields)) {
    let value: unknown
    try {
      value = fields[name]
    } catch {
      walk.around.pop()
      return redactFields(readable(fields), walk, isTop)
    }
    const shown = isSecret(name)
      ? CENSOR
      : isTop && name === LOG_FIELD.error
        ? value
        : redactValue(value, walk)
    if (shown === value || value === undefined) continue
    copy ??= { ...fields }
    copy[name] = shown
  }
  walk.around.pop()
  return copy ?? fields
}

function redactValue(value: unknown, walk: Walk): unknown {
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  if (value instanceof Error) return errorFields(value)
  if (walk.around.includes(value)) return '[Circular]'
  walk.objectsLeft -= 1
  if (walk.around.length >= MAX_DEPTH || walk.objectsLeft < 0)
    return Array.isArray(value) ? '[Array]' : '[Object]'
  if (Array.isArray(value)) return redactItems(value, walk)
  const toJSON = toJsonOf(value)
  if (toJSON === undefined) return redactFields(value as Fields, walk)
  // What is written is what toJSON returns: a model's fields, an HTTP client's headers.
  try {
    return redactValue(toJSON.call(value, ''), walk)
  } catch {
    return '[unserializable]'
  }
}

function redactItems(items: unknown[], walk: Walk): unknown[] {
  walk.around.push(items)
  const shown = items.map((item) => redactValue(item, walk))
  walk.around.pop()
  return shown.some((item, index) => item !== items[index]) ? shown : items
}

function toJsonOf(value: object): ((key: string) => unknown) | undefined {
  try {
    const { toJSON } = value as { toJSON?: unknown }
    return typeof toJSON === 'function' ? (toJSON as (key: string) => unknown) : undefined
  } catch {
    return undefined
  }
}

// A getter that throws would make the log call throw.
function readable(fields: Fields): Fields {
  const copy: Fields = {}
  for (const name of Object.keys(fields)) {
    try {
      copy[name] = fields[name]
    } catch {
      copy[name] = '[unreadable]'
    }
  }
  return copy
}

const secretByName = new Map<string, boolean>()

/** Names remembered; a program has few, unless it logs maps as objects. */
const MAX_NAMES = 1000

function isSecret(name: string): boolean {
  let known = secretByName.get(name)
  if (known === undefined) {
    known = SECRET_FIELDS.has(name.toLowerCase().replace(/[-_]/g, ''))
    if (secretByName.size < MAX_NAMES) secretByName.set(name, known)
  }
  return known
}
