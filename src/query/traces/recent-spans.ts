import { kept } from './kept-text.js'

/** Many times what a batch holds (512 by default), about 10 MB. */
const REMEMBERED = 50_000

/**
 * Tells spans that were written twice: a batch whose export timed out is sent again. In bounded memory, so only
 * among those that were written last: of two sets the older one is forgotten whenever the younger is full.
 */
export class RecentSpans {
  #younger = new Set<string>()
  #older = new Set<string>()

  /** False when it was among the last 50 000 spans. */
  isNew({ traceId, spanId }: { traceId: string; spanId: string }): boolean {
    const id = `${kept(traceId)}:${kept(spanId)}`
    if (this.#younger.has(id) || this.#older.has(id)) return false
    this.#younger.add(id)
    if (this.#younger.size >= REMEMBERED) {
      this.#older = this.#younger
      this.#younger = new Set()
    }
    return true
  }
}
