/** What an ID stands for, from one pass over the files: which whole ID is meant, and which traces have it. */
import { ATTRIBUTE, LOG_FIELD } from '../../telemetry/names.js'
import { asObject, asText } from '../files/loose-json.js'
import type { ReadTally } from '../files/ndjson-files.js'
import { readLogs, type StoredLog } from '../logs/log-files.js'
import { readSpans, type StoredSpan } from './span-files.js'

/** From this many characters on, the beginning of a correlation ID or trace ID is enough, if no other begins so. */
export const MIN_PREFIX_LENGTH = 6

/** Most traces of one ID that are looked up. */
export const MAX_TRACES = 100

/** Most IDs with the same beginning that are told. */
const MAX_CANDIDATES = 10

/** What an ID may be; where it is several of them, the earlier counts. A trace ID often is a correlation ID too. */
const KINDS = ['correlation', 'trace', 'digest', 'key'] as const

/**
 * How a trace was found: by its correlation ID or trace ID, by the digest that Next's error page shows, or by the
 * hash of an idempotency key.
 */
export type FoundBy = (typeof KINDS)[number]

/** The one whole ID that is meant. */
export interface AskedId {
  id: string
  foundBy: FoundBy
  /** One more than `MAX_TRACES` when there are more than that. */
  traceIds: ReadonlySet<string>
}

/** What the first pass makes of an ID. */
export interface Mentions {
  /** Undefined when nothing has the ID, or several begin with it. */
  asked?: AskedId
  /** Several IDs that begin with it, at most ten. */
  candidates: string[]
  spanFiles: ReadTally
  logFiles: ReadTally
}

/** A whole ID goes before a beginning, and a correlation ID or trace ID before a digest and a key's hash. */
export async function findMentions(directory: string, id: string): Promise<Mentions> {
  const spanFiles: ReadTally = { files: 0, unreadableLines: 0 }
  const logFiles: ReadTally = { files: 0, unreadableLines: 0 }
  const meanings = new Meanings(id)
  const containing = [...new Set([id, id.toLowerCase()])]
  for await (const span of readSpans(directory, { containing, tally: spanFiles })) {
    meanings.note('correlation', correlationIdOf(span), span.traceId)
    meanings.note('trace', span.traceId, span.traceId)
    for (const keyHash of keyHashesOf(span)) meanings.note('key', keyHash, span.traceId)
  }
  for await (const log of readLogs(directory, { containing, tally: logFiles })) {
    for (const kind of KINDS) meanings.note(kind, idOfLog(log, kind), log.traceId)
  }
  return { ...meanings.answer(), spanFiles, logFiles }
}

export function correlationIdOf({ attributes }: StoredSpan): string | undefined {
  return asText(attributes[ATTRIBUTE.correlationId])
}

/** The ID of that kind that a line has, if it has one. */
export function idOfLog({ correlationId, traceId, fields }: StoredLog, kind: FoundBy): string | undefined {
  switch (kind) {
    case 'correlation':
      return correlationId
    case 'trace':
      return traceId
    case 'digest':
      return asText(asObject(fields[LOG_FIELD.error])?.digest)
    case 'key':
      return asText(asObject(fields[LOG_FIELD.idempotency])?.key_hash)
  }
}

/** Of all keys: the attributes of a request's first span are those of its last use, and a race is an event alone. */
function keyHashesOf({ attributes, events }: StoredSpan): string[] {
  return [attributes, ...events.map((event) => event.attributes)].flatMap(
    (each) => asText(each[ATTRIBUTE.idempotencyKeyHash]) ?? [],
  )
}

class Meanings {
  readonly #id: string
  /** The traces of each whole ID that is this one, or begins with it. */
  readonly #traces = new Map<string, Map<FoundBy, Set<string>>>()

  constructor(id: string) {
    this.#id = id
  }

  note(foundBy: FoundBy, known: string | undefined, traceId: string | undefined): void {
    if (known === undefined || !this.#isMeant(foundBy, known)) return
    const kinds = this.#traces.get(known) ?? new Map<FoundBy, Set<string>>()
    const traces = kinds.get(foundBy) ?? new Set()
    this.#traces.set(known, kinds.set(foundBy, traces))
    if (traceId !== undefined && traces.size <= MAX_TRACES) traces.add(traceId)
  }

  answer(): Pick<Mentions, 'asked' | 'candidates'> {
    const known = [...this.#traces.keys()]
    const whole = known.find((each) => each === this.#id) ?? known.find((each) => isSameId(each, this.#id))
    if (whole === undefined && known.length > 1) return { candidates: known.sort() }
    const id = whole ?? known[0]
    const kinds = id === undefined ? undefined : this.#traces.get(id)
    const foundBy = KINDS.find((kind) => kinds?.has(kind))
    if (id === undefined || foundBy === undefined) return { candidates: [] }
    // The trace of that ID, and others of the same request.
    const counting: FoundBy[] = foundBy === 'correlation' ? ['correlation', 'trace'] : [foundBy]
    const traceIds = new Set(counting.flatMap((kind) => [...(kinds?.get(kind) ?? [])]))
    return { asked: { id, foundBy, traceIds }, candidates: [] }
  }

  /** Digests are short, and hashes are pasted: they are meant whole only. */
  #isMeant(foundBy: FoundBy, known: string): boolean {
    const id = this.#id
    if (isSameId(known, id)) return true
    if (foundBy === 'digest' || foundBy === 'key' || id.length < MIN_PREFIX_LENGTH) return false
    if (!known.startsWith(id) && !known.startsWith(id.toLowerCase())) return false
    return this.#traces.size < MAX_CANDIDATES || this.#traces.has(known)
  }
}

// Trace IDs and hashes are kept in lower case; correlation IDs and digests are as they were written.
function isSameId(known: string, id: string): boolean {
  return known === id || (/^(?:[0-9a-f]{16}){1,2}$/.test(known) && known === id.toLowerCase())
}
