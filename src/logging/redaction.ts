/**
 * Blanks what a log line may carry by accident. Fields are known by their name, at any depth that is written.
 *
 * pino's `redact` takes paths, and a wildcard path walks and copies the line: the two levels that would cover
 * less than this took 50 µs a line, twenty times the line itself (pino 10.4). Its paths stay available as the
 * `redact` option, for fields that have no telling name.
 */

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

/** Objects deeper than this are not written: pino's own `depthLimit`. */
const MAX_DEPTH = 5

type Fields = Record<string, unknown>

/** Returns the fields as they are or, where there are secrets, a copy in which they are blanked. */
export function redactSecrets(fields: Fields): Fields {
  return redactFields(fields, 1)
}

function redactFields(fields: Fields, depth: number): Fields {
  let copy: Fields | undefined
  for (const name of Object.keys(fields)) {
    const value = fields[name]
    const shown = isSecret(name) ? CENSOR : redactValue(value, depth)
    if (shown === value || value === undefined) continue
    copy ??= { ...fields }
    copy[name] = shown
  }
  return copy ?? fields
}

function redactValue(value: unknown, depth: number): unknown {
  // An error is written by the serializer, which takes named fields alone.
  if (typeof value !== 'object' || value === null || value instanceof Error || depth >= MAX_DEPTH)
    return value
  if (Array.isArray(value)) {
    const shown = value.map((item) => redactValue(item, depth + 1))
    return shown.some((item, index) => item !== value[index]) ? shown : value
  }
  const { toJSON } = value as { toJSON?: unknown }
  if (typeof toJSON !== 'function') return redactFields(value as Fields, depth + 1)
  return value instanceof Date ? value : redactJson(value, toJSON as () => unknown, depth)
}

// What is written is what toJSON returns: a model's fields, an HTTP client's headers.
function redactJson(value: object, toJSON: () => unknown, depth: number): unknown {
  try {
    return redactValue(toJSON.call(value), depth + 1)
  } catch {
    return '[unserializable]'
  }
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
