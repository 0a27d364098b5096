/**
 * The fingerprint of a payload: equal for equal content, whatever the order of properties, fields of
 * different names, Map entries and Set members. It tells a retry from another intent under a used key.
 *
 * Every value is written with a type tag and every text with its length, so that two different payloads
 * never write the same text: `1` and `"1"`, `{ a: undefined }` and `{}` differ.
 */
import { sha256 } from './sha256.js'

/**
 * SHA-256 of the payload's content, 64 hex digits.
 *
 * Left out: React's `$ACTION_*` fields of a FormData, and the field that holds the key, of a FormData and
 * of an object that is the payload or one of its arguments. A file counts by name, size, type and content.
 *
 * @param keyField name of the field that holds the key
 * @throws {TypeError} for a value without comparable content: a function, a symbol, a promise, a stream.
 * @example await fingerprintOf([formData], 'idempotencyKey')
 */
export async function fingerprintOf(payload: unknown, keyField?: string): Promise<string> {
  const digests = new Map<Blob, string>()
  const missing = new Set<Blob>()
  const writer: Writer = {
    keyField,
    ancestors: [],
    digestOf(blob) {
      const digest = digests.get(blob)
      if (digest === undefined) missing.add(blob)
      return digest ?? ''
    },
  }
  let text = write(payload, writer, 0)
  if (missing.size > 0) {
    // Only a file's content has to be awaited; the walk stays synchronous and is made once more.
    for (const blob of missing) digests.set(blob, sha256(new Uint8Array(await blob.arrayBuffer())))
    text = write(payload, writer, 0)
  }
  return sha256(text)
}

interface Writer {
  keyField: string | undefined
  ancestors: object[]
  digestOf(blob: Blob): string
}

function write(value: unknown, writer: Writer, depth: number): string {
  switch (typeof value) {
    case 'undefined':
      return 'u'
    case 'boolean':
      return value ? 't' : 'f'
    case 'number':
      return `n${value};`
    case 'bigint':
      return `i${value};`
    case 'string':
      return `s${sized(value)}`
    case 'object':
      return value === null ? '0' : writeObject(value, writer, depth)
    default:
      throw incomparable(typeof value)
  }
}

function writeObject(value: object, writer: Writer, depth: number): string {
  const ancestor = writer.ancestors.indexOf(value)
  if (ancestor >= 0) return `c${ancestor};`
  writer.ancestors.push(value)
  const inner = (item: unknown) => write(item, writer, depth + 1)
  try {
    if (Array.isArray(value)) return list('a', Array.from(value, inner))
    if (value instanceof Date) return `d${value.getTime()};`
    if (value instanceof Map)
      return list('m', [...value].map(([key, item]) => inner(key) + inner(item)).sort())
    if (value instanceof Set) return list('e', [...value].map(inner).sort())
    if (value instanceof FormData) return writeForm(value, writer, inner)
    if (value instanceof Blob) return writeBlob(value, writer)
    if (value instanceof ArrayBuffer) return `bArrayBuffer;${sha256(new Uint8Array(value))}`
    if (ArrayBuffer.isView(value)) return writeView(value)
    if (value instanceof RegExp || value instanceof URLSearchParams) return `x${sized(String(value))}`
    return writeProperties(value, writer, depth, inner)
  } finally {
    writer.ancestors.pop()
  }
}

function writeForm(form: FormData, { keyField }: Writer, inner: (item: unknown) => string): string {
  const names = [...new Set(form.keys())].filter((name) => !name.startsWith('$ACTION_') && name !== keyField)
  const fields = names.sort().map((name) => sized(name) + list('a', form.getAll(name).map(inner)))
  return list('F', fields)
}

function writeBlob(blob: Blob, writer: Writer): string {
  const name = blob instanceof File ? blob.name : ''
  return `B${sized(name)}${blob.size};${sized(blob.type)}${writer.digestOf(blob)}`
}

function writeView(view: ArrayBufferView): string {
  // The tag of a Buffer is `Uint8Array`, as it is after a round trip.
  const { [Symbol.toStringTag]: type } = view as ArrayBufferView & { [Symbol.toStringTag]: string }
  return `b${type};${sha256(new Uint8Array(view.buffer, view.byteOffset, view.byteLength))}`
}

function writeProperties(
  value: object,
  writer: Writer,
  depth: number,
  inner: (item: unknown) => string,
): string {
  const prototype: unknown = Object.getPrototypeOf(value)
  const isPlain =
    prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null
  if (!isPlain && 'toJSON' in value && typeof value.toJSON === 'function') return `j${inner(value.toJSON())}`
  const names = Object.keys(value)
  // A class instance that hides its content would equal every other one, and a wrong replay is worse.
  if (!isPlain && names.length === 0) throw incomparable(Object.prototype.toString.call(value).slice(8, -1))
  const isArgument = depth === 0 || (depth === 1 && Array.isArray(writer.ancestors[0]))
  const counted = isArgument ? names.filter((name) => name !== writer.keyField) : names
  return list(
    'o',
    counted.sort().map((name) => sized(name) + inner(Reflect.get(value, name))),
  )
}

function list(tag: string, items: string[]): string {
  return `${tag}${items.length};${items.join('')}`
}

function sized(text: string): string {
  return `${text.length}:${text}`
}

function incomparable(type: string): TypeError {
  return new TypeError(
    `runOnce: "payload" must hold values that can be compared, received a ${type} in it. Pass the data the run depends on, and nothing else.`,
  )
}
