/** More of a text is not kept, in UTF-16 units: longer than any ID of ours, and than most names. */
const MAX_LENGTH = 256

/** Strangers' text for what is kept of very many: its beginning, of its own memory (a slice would keep the whole). */
export function kept(text: string): string {
  return text.length <= MAX_LENGTH
    ? text
    : Buffer.from(text.slice(0, MAX_LENGTH), 'utf16le').toString('utf16le')
}

const MAX_SHARED = 10_000

const shared = new Map<string, string>()

/** The same for names, which many traces have in common: each is kept once, the first 10 000 of them. */
export function keptName(name: string): string {
  const known = shared.get(name)
  if (known !== undefined) return known
  const text = kept(name)
  if (shared.size < MAX_SHARED) shared.set(text, text)
  return text
}
