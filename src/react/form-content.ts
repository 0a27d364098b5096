/**
 * What a form or a payload says, as a short text: to tell in the browser whether a key that was sent is sent
 * again with the same content. Not a secret and no proof; the server compares fingerprints.
 *
 * @param keyField left out
 */
export function contentOf(payload: FormData | Record<string, unknown>, keyField: string): string {
  const entries = payload instanceof FormData ? [...payload] : Object.entries(payload)
  const counted = entries.filter(([name]) => name !== keyField && !name.startsWith('$ACTION_'))
  return hash(JSON.stringify(counted.map(([name, value]) => [name, comparable(value)])))
}

function comparable(value: unknown): unknown {
  if (value instanceof File) return [value.name, value.size, value.type, value.lastModified]
  return typeof value === 'bigint' ? String(value) : value
}

/** Two FNV-1a hashes of 32 bits each (http://www.isthe.com/chongo/tech/comp/fnv/), in hex. */
function hash(text: string): string {
  let [one, other] = [0x811c9dc5, 0x01000193]
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    one = Math.imul(one ^ code, 0x01000193)
    other = Math.imul(other ^ (code + index), 0x01000193)
  }
  return [one, other].map((part) => (part >>> 0).toString(16).padStart(8, '0')).join('')
}
