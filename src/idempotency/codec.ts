/**
 * Results as text, for a store to keep: `<version>|<kind>|<content>`.
 *
 * The content is devalue's, whose format may change between its versions: raise `VERSION` with it. What
 * cannot be written or read is "done, not replayable": known to have happened, and never run again.
 */
import { parse, stringify } from 'devalue'

const VERSION = '1'

/** Largest encoded result kept, in bytes, unless another limit is given. */
export const DEFAULT_MAX_RESULT_BYTES = 1_048_576

/** How a run ended. */
export type RunResult =
  | { kind: 'returned'; value: unknown }
  /** It threw what is to be thrown again: a redirect, a declared domain error. `value` is its data. */
  | { kind: 'thrown'; value: unknown }
  /** It is done, but its result cannot be replayed. */
  | { kind: 'opaque'; why: string }

/** A result as text. */
interface EncodedResult {
  text: string
  /** Why it became `opaque`; undefined when it can be replayed. */
  whyOpaque: string | undefined
}

/**
 * Writes a result. Date, Map, Set, BigInt, undefined, typed arrays, URL, RegExp and cycles round-trip;
 * functions, promises and class instances do not, and become `opaque`.
 */
export function encodeResult(result: RunResult, maxBytes: number = DEFAULT_MAX_RESULT_BYTES): EncodedResult {
  if (result.kind === 'opaque') return encodeOpaque(result.why)
  try {
    const text = `${VERSION}|${result.kind}|${stringify(result.value, { view: copyOfPartialView })}`
    const bytes = Buffer.byteLength(text)
    if (bytes <= maxBytes) return { text, whyOpaque: undefined }
    return encodeOpaque(`It has ${bytes} bytes encoded; the limit is ${maxBytes}.`)
  } catch (error) {
    return encodeOpaque(`It cannot be encoded: ${reasonOf(error)}.`)
  }
}

/** Reads a result. Text of another version, or damaged, reads as `opaque`. */
export function decodeResult(text: string): RunResult {
  const [, version, kind, content] = /^([^|]*)\|([^|]*)\|(.*)$/s.exec(text) ?? []
  if (version !== VERSION || content === undefined) {
    return { kind: 'opaque', why: 'It was written by another version of throughline.' }
  }
  if (kind === 'opaque') return { kind, why: content }
  try {
    const value: unknown = parse(content, { view: (copy) => copy })
    if (kind === 'returned' || kind === 'thrown') return { kind, value }
  } catch {}
  return { kind: 'opaque', why: 'It cannot be decoded.' }
}

function encodeOpaque(why: string): EncodedResult {
  return { text: `${VERSION}|opaque|${why}`, whyOpaque: why }
}

/**
 * devalue writes the whole buffer behind a typed array, with bytes that are not in the view: they may be
 * another request's. So a partial view is copied first. A Buffer it copies itself.
 */
function copyOfPartialView(value: unknown): unknown {
  if (!ArrayBuffer.isView(value) || Buffer.isBuffer(value)) return undefined
  if (value.byteLength === value.buffer.byteLength) return undefined
  const bytes = value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength)
  const View = value.constructor as new (buffer: ArrayBufferLike) => ArrayBufferView
  return new View(bytes)
}

// devalue's error also holds the value and its root, and its path the keys of Maps, which are data: only the
// message and the names of properties go on.
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const path =
    'path' in error && typeof error.path === 'string' ? error.path.replace(/\.get\(.*\)/s, '.get(…)') : ''
  return path === '' ? error.message : `${error.message} (at "${path}")`
}
