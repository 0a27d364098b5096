/**
 * Uses of idempotency keys, back from span files.
 *
 * One use is written to several spans (`src/telemetry/idempotency.ts`): the guarded run's or the KV command's,
 * and the request's first span. The first span's attributes are those of its last use, laid over earlier
 * ones, so of a hit the event is read, which stands alone.
 */
import { ATTRIBUTE, EVENT } from '../../telemetry/names.js'
import { asText } from '../files/loose-json.js'
import type { ReadTally } from '../files/ndjson-files.js'
import { type Attributes, readSpans, type StoredSpan } from '../traces/span-files.js'

/** One use of a key. */
export interface KeyUse {
  keyHash: string
  /** Undefined for a first use that only later ones tell of. */
  outcome?: string
  /** True when the key had been used before. */
  isHit: boolean
  /** How often the key had been used again, as this use was told. */
  hits?: number
  /** Epoch milliseconds. */
  timeMs: number
  /** Age of the first use, by the store's clock, in milliseconds. */
  ageMs?: number
  /** The action; outside one, the name of the request's first span. */
  action: string
  /** Undefined when the first use was not traced. */
  traceId?: string
  /** Trace of the first use, on a hit. */
  originTraceId?: string
  /** True on a first use whose payload had just come under another key. */
  isSuspect: boolean
  /** That other key. */
  suspectKeyHash?: string
  /** True when its span is not in the files, and a later use told of it. */
  isToldLater: boolean
}

/** Bounds memory: beyond it, the uses that were written first are let go. */
const MAX_USES = 100_000

/** @param containing a text that the lines worth parsing have */
export async function readKeyUses(
  directory: string,
  containing: string,
  maxUses: number = MAX_USES,
): Promise<{ uses: KeyUse[]; tally: ReadTally; isTruncated: boolean }> {
  const tally: ReadTally = { files: 0, unreadableLines: 0 }
  const sightings = new Map<string, Sighting>()
  // One iterator for all: a new one would step over every entry deleted so far, each time.
  const oldest = sightings.keys()
  let isTruncated = false
  for await (const span of readSpans(directory, { containing: [containing], tally })) {
    for (const sighting of sightingsOf(span)) {
      const [id, ...otherIds] = idsOf(sighting)
      const knownId = [id, ...otherIds].find((candidate) => sightings.has(candidate)) ?? id
      const known = sightings.get(knownId)
      sightings.set(knownId, known === undefined ? sighting : merged(known, sighting))
      if (sightings.size <= maxUses) continue
      sightings.delete(oldest.next().value ?? '')
      isTruncated = true
    }
  }
  const uses = [...sightings.values()].map(({ use, action, outer }) => ({
    ...use,
    action: action ?? outer.name,
  }))
  return { uses, tally, isTruncated }
}

/** A use, as one or more spans show it. */
interface Sighting {
  use: Omit<KeyUse, 'action'>
  spanStartMs: number
  /** Epoch milliseconds of the event, if one shows the use. */
  eventMs: number | undefined
  action: string | undefined
  /** The outermost of the spans: the request's first. */
  outer: { startMs: number; name: string }
}

/** Copies of one use are written at once; clocks of two spans differ by less than this. */
const COPIES_WITHIN_MS = 50

/**
 * What copies of one use have in common; the first is to be used when none is known yet. Where no count tells
 * two uses apart (a store in a transaction cannot count one that is turned away), a caller's retries inside
 * one trace differ by their time only.
 */
function idsOf({ use: { traceId, keyHash, outcome, hits }, eventMs }: Sighting): [string, ...string[]] {
  const parts = [traceId, keyHash, outcome, hits]
  if (hits !== undefined || eventMs === undefined) return [JSON.stringify(parts)]
  const slot = Math.floor(eventMs / COPIES_WITHIN_MS)
  const idAt = (place: number) => JSON.stringify([...parts, place])
  return [idAt(slot), idAt(slot - 1), idAt(slot + 1)]
}

// What starts last is the span that saw the use; what lies around it has a copy.
function merged(a: Sighting, b: Sighting): Sighting {
  const [inner, other] = b.spanStartMs > a.spanStartMs ? [b, a] : [a, b]
  return {
    ...inner,
    action: inner.action ?? other.action,
    outer: other.outer.startMs < inner.outer.startMs ? other.outer : inner.outer,
  }
}

function sightingsOf(span: StoredSpan): Sighting[] {
  const hits = span.events.filter((event) => event.name === EVENT.idempotencyHit)
  const seen = hits.map(({ attributes, timeMs }) => ({
    use: keyUseIn(attributes, span, timeMs),
    eventMs: timeMs as number | undefined,
  }))
  // An SDK drops events beyond a limit, and a converter may drop all.
  if (span.attributes[ATTRIBUTE.idempotencyHit] !== true || hits.length === 0)
    seen.push({ use: keyUseIn(span.attributes, span, span.startTimeMs), eventMs: undefined })
  const action = actionOf(span)
  const outer = { startMs: span.startTimeMs, name: span.name }
  return seen.flatMap(({ use, eventMs }) =>
    use === undefined ? [] : [{ use, spanStartMs: span.startTimeMs, eventMs, action, outer }],
  )
}

function keyUseIn(attributes: Attributes, span: StoredSpan, timeMs: number): Sighting['use'] | undefined {
  const keyHash = asText(attributes[ATTRIBUTE.idempotencyKeyHash])
  const outcome = asText(attributes[ATTRIBUTE.idempotencyOutcome])
  if (keyHash === undefined || outcome === undefined) return undefined
  const isHit = attributes[ATTRIBUTE.idempotencyHit] === true
  // A first use has none; what stands on a request's first span may be another use's.
  const hits = isHit ? attributes[ATTRIBUTE.idempotencyHits] : 0
  const ageMs = isHit ? attributes[ATTRIBUTE.idempotencyAgeMs] : undefined
  const originTraceId = isHit ? asText(attributes[ATTRIBUTE.idempotencyOriginTraceId]) : undefined
  const isSuspect = !isHit && attributes[ATTRIBUTE.idempotencySuspect] === true
  const suspectKeyHash = isSuspect ? asText(attributes[ATTRIBUTE.idempotencySuspectKeyHash]) : undefined
  return {
    ...{ keyHash, outcome, isHit, timeMs, traceId: span.traceId, isSuspect, isToldLater: false },
    ...(typeof hits === 'number' ? { hits } : {}),
    ...(typeof ageMs === 'number' ? { ageMs } : {}),
    ...(originTraceId === undefined ? {} : { originTraceId }),
    ...(suspectKeyHash === undefined ? {} : { suspectKeyHash }),
  }
}

// A guarded route names its span, and is no Server Action.
function actionOf({ name, attributes }: StoredSpan): string | undefined {
  return asText(attributes[ATTRIBUTE.actionName]) ?? /^route (\S.*)$/.exec(name)?.[1]
}
