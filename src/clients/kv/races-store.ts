/**
 * The race of a hand-written recipe, seen across processes: each request that misses a key leaves an entry in the
 * KV, under the key's hash, and reads those of others.
 *
 *   A misses: leaves A, reads nobody                 B misses: leaves B, reads A     → B is flagged
 *   A writes the key: reads B, notes when it wrote   → A is flagged
 *
 * An entry that comes late, after A wrote, still tells B of A, since B missed the key before that; A has read by
 * then. A request that ends without a write takes its entry away: a retry that misses is no race with it.
 *
 * Each process flags its own request, with a link to the other's first span. No request waits for it: entries are
 * sent and read beside the request, without a span, and what fails is counted.
 */
import { context, createContextKey, ROOT_CONTEXT, TraceFlags } from '@opentelemetry/api'
import {
  contextStorage,
  epochMs,
  isCorrelationId,
  processWide,
  type RequestContext,
  randomSpanId,
  runInContext,
} from '../../context/index.js'
import { logger } from '../../logging/index.js'
import type { OtherRequest } from '../../telemetry/idempotency.js'
import { count } from '../../telemetry/meter.js'
import { METRIC } from '../../telemetry/names.js'
import { clientSettings, type RaceStoreClient } from '../settings.js'

/** How long an entry lasts after the last one for the same key, in milliseconds. */
const RETENTION_MS = 10_000

/** Entries per key; the oldest goes first. */
const MAX_ENTRIES = 32

/** An entry that is older, or from a future further off, is not believed. In milliseconds: clocks differ. */
const MAX_AGE_MS = 60_000

/** Scripts sent and not answered. A client whose server is away keeps what it is given. */
const MAX_UNDER_WAY = 1_000

const LEAVE_AND_READ = `redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -${MAX_ENTRIES}, -1)
redis.call('PEXPIRE', KEYS[1], ${RETENTION_MS})
return redis.call('LRANGE', KEYS[1], 0, -1)`

const READ_AND_REPLACE = `local entries = redis.call('LRANGE', KEYS[1], 0, -1)
if redis.call('LREM', KEYS[1], 1, ARGV[1]) > 0 then redis.call('RPUSH', KEYS[1], ARGV[2]) end
return entries`

const TAKE_AWAY = `return redis.call('LREM', KEYS[1], 1, ARGV[1])`

/** What a request left in the store under one key. */
interface LeftEntry {
  text: string
  /** Epoch milliseconds. */
  missedAt: number
  /** Settles when it is there, or could not be. */
  left: Promise<void>
  onOther(other: OtherRequest): void
  /** Tokens of the others that were shown. */
  shown: Set<string>
}

interface Share {
  /** Of this process, at the beginning of each token. */
  processToken: string
  /** By request, then by the key's hash. */
  entries: WeakMap<RequestContext, Map<string, LeftEntry>>
  underWay: number
  hasFailed: boolean
}

const share = processWide<Share>('clients.kv.shared-misses', () => ({
  processToken: randomSpanId(),
  entries: new WeakMap(),
  underWay: 0,
  hasFailed: false,
}))

/**
 * Tells other processes that the request missed the key. Does nothing without a `raceStore`.
 *
 * @param onOther called, in the request, for each request of another process that missed it too
 */
export function shareMiss(
  keyHash: string,
  request: RequestContext,
  onOther: (other: OtherRequest) => void,
): void {
  if (clientSettings().raceStore === undefined) return
  let entries = share.entries.get(request)
  if (entries === undefined) {
    entries = new Map()
    share.entries.set(request, entries)
    request.onClose = [...(request.onClose ?? []), () => takeAway(request)]
  }
  if (entries.has(keyHash)) return
  const missedAt = Math.round(epochMs())
  const text = entryOf(request, missedAt)
  const left = run(LEAVE_AND_READ, keyHash, [text], (found) => show(request, entry, found))
  const entry: LeftEntry = { text, missedAt, left, onOther, shown: new Set() }
  entries.set(keyHash, entry)
}

/** The request wrote the key: who missed it meanwhile is shown. */
export function shareWrite(keyHash: string, request: RequestContext): void {
  const entries = share.entries.get(request)
  const entry = entries?.get(keyHash)
  if (entry === undefined) return
  entries?.delete(keyHash)
  const written = `${entry.text} ${Math.round(epochMs())}`
  // A REST client may send the second call before the first.
  void entry.left.then(() =>
    run(READ_AND_REPLACE, keyHash, [entry.text, written], (found) => show(request, entry, found)),
  )
}

function takeAway(request: RequestContext): void {
  for (const [keyHash, { left, text }] of share.entries.get(request) ?? [])
    void left.then(() => run(TAKE_AWAY, keyHash, [text]))
  share.entries.delete(request)
}

function show(request: RequestContext, entry: LeftEntry, found: unknown): void {
  if (!Array.isArray(found)) return
  for (const text of found.slice(-MAX_ENTRIES)) {
    const other = readEntry(text)
    // Those of this process are seen without the store.
    if (other === undefined || other.token.startsWith(share.processToken)) continue
    if (other.writtenAt <= entry.missedAt || entry.shown.has(other.token)) continue
    entry.shown.add(other.token)
    runInContext(request, () => entry.onOther(other))
  }
}

function entryOf({ firstSpan, traceId, correlationId }: RequestContext, missedAt: number): string {
  const span = firstSpan?.spanContext()
  const token = share.processToken + randomSpanId()
  return [token, span?.traceId ?? traceId, span?.spanId ?? '0'.repeat(16), missedAt, correlationId].join(' ')
}

const ENTRY = /^([0-9a-f]{32}) ([0-9a-f]{32}) ([0-9a-f]{16}) (\d{1,15}) (\S{1,128})(?: (\d{1,15}))?$/

interface ReadEntry extends OtherRequest {
  token: string
  /** Epoch milliseconds; Infinity until it writes. */
  writtenAt: number
}

// Whoever can write to the store may have written it.
function readEntry(text: unknown): ReadEntry | undefined {
  const [, token, traceId, spanId, missedAt, correlationId, writtenAt] = ENTRY.exec(String(text)) ?? []
  if (token === undefined || traceId === undefined || spanId === undefined) return undefined
  if (correlationId === undefined || !isCorrelationId(correlationId)) return undefined
  if (Math.abs(epochMs() - Number(missedAt)) > MAX_AGE_MS) return undefined
  return {
    token,
    correlationId,
    writtenAt: Number(writtenAt ?? Number.POSITIVE_INFINITY),
    spanContext: { traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true },
  }
}

/** Set for SDKs, which know it by this name: what runs in it makes no spans. */
const UNTRACED = ROOT_CONTEXT.setValue(
  createContextKey('OpenTelemetry SDK Context Key SUPPRESS_TRACING'),
  true,
)

async function run(
  script: string,
  keyHash: string,
  args: string[],
  onFound: (entries: unknown) => void = () => {},
): Promise<void> {
  const { raceStore } = clientSettings()
  if (raceStore === undefined || share.underWay >= MAX_UNDER_WAY) return
  share.underWay += 1
  try {
    onFound(
      await context.with(UNTRACED, () =>
        contextStorage.run(undefined as unknown as RequestContext, () =>
          evaluate(raceStore, script, `throughline:misses:${keyHash}`, args),
        ),
      ),
    )
  } catch (error) {
    noteFailure(error)
  } finally {
    share.underWay -= 1
  }
}

async function evaluate(
  client: RaceStoreClient,
  script: string,
  key: string,
  args: string[],
): Promise<unknown> {
  const { eval: evaluateScript } = client as unknown as { eval(...args: unknown[]): unknown }
  const evaluated = (...rest: unknown[]) => evaluateScript.apply(client, [script, ...rest])
  if ('evalSha' in client) return evaluated({ keys: [key], arguments: args })
  if ('sendCommand' in client) return evaluated(1, key, ...args)
  return evaluated([key], args)
}

function noteFailure(error: unknown): void {
  count(METRIC.raceStoreFailures)
  if (share.hasFailed) return
  share.hasFailed = true
  // Of the error its name alone: its text may quote the command.
  logger.warn(
    { reason: error instanceof Error ? error.name : typeof error },
    'the race store failed: races with other processes go unseen while it does. Said once',
  )
}
