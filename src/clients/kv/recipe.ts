/**
 * Sees the hand-written idempotency recipe in KV traffic: `get` a key, do the work, `set` the key. A reply
 * that says the key is already there is a second use, and is shown as one, without the app's help.
 */
import type { Span } from '@opentelemetry/api'
import { epochMs, tryGetContext } from '../../context/index.js'
import { currentOrigin, showIdempotencyUse } from '../../telemetry/idempotency.js'
import { hashKey } from '../../telemetry/key-hash.js'
import { noteMiss, noteWritten } from './races.js'
import { noteFirstUse, noteHit } from './seen-keys.js'

/** One finished KV command. */
export interface KvReply {
  /** Upper-case command name. */
  command: string
  /** First key of the command. */
  key: string
  reply: unknown
}

/**
 * Flags the span, and the request's first span, when the reply shows a key in use; notes a first write, and
 * a key that was asked for and is not there.
 *
 * @param store the client's name, for the counter
 */
export function watchRecipe(span: Span, { command, key, reply }: KvReply, store: string): void {
  const sighting = sightingOf(command, reply)
  if (sighting === undefined) return
  const keyHash = hashKey(key)
  const requestContext = tryGetContext()
  if (sighting === 'missing') {
    if (requestContext !== undefined) noteMiss(keyHash, requestContext)
    return
  }
  noteWritten(keyHash, sighting === 'written' ? requestContext : undefined)
  if (sighting === 'written') {
    noteFirstUse(keyHash, currentOrigin(), epochMs())
    return
  }
  const known = noteHit(keyHash)
  showIdempotencyUse(span, {
    keyHash,
    outcome: command === 'SET' || command === 'SETNX' ? 'busy' : 'replay',
    isHit: true,
    hits: known.hits,
    ...(known.firstUsedAt === undefined ? {} : { ageMs: epochMs() - known.firstUsedAt }),
    ...(known.origin === undefined ? {} : { origin: known.origin }),
    store,
  })
}

/**
 * What a reply says about the key. The channels blank the arguments of SET, so `NX` cannot be read; but
 * only a SET that was refused replies null, and only `SET … GET` replies with an earlier value.
 */
function sightingOf(command: string, reply: unknown): 'in use' | 'written' | 'missing' | undefined {
  // Sent one by one inside a MULTI: the answer comes with EXEC.
  if (isText(reply, 'QUEUED')) return undefined
  switch (command) {
    case 'GET':
    case 'HGET':
      return reply === null || reply === undefined ? 'missing' : 'in use'
    case 'HGETALL':
      return sizeOf(reply) > 0 ? 'in use' : 'missing'
    case 'EXISTS':
      return Number(reply) > 0 ? 'in use' : 'missing'
    case 'SETNX':
      return Number(reply) === 1 ? 'written' : 'in use'
    case 'SET':
      return isText(reply, 'OK') ? 'written' : 'in use'
    case 'SETEX':
    case 'PSETEX':
    case 'HSET':
      return 'written'
    default:
      return undefined
  }
}

// Not by `String(reply)`: a hash may be an object without a prototype, which has no text.
function isText(reply: unknown, text: string): boolean {
  return (typeof reply === 'string' || Buffer.isBuffer(reply)) && reply.toString() === text
}

function sizeOf(hash: unknown): number {
  if (typeof hash !== 'object' || hash === null) return 0
  return hash instanceof Map ? hash.size : Object.keys(hash).length
}
