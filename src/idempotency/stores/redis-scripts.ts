/**
 * The Lua of the Redis and Upstash stores: the machine of `record.ts`, run inside the server. Stock Redis 6 and
 * later, Valkey, Upstash.
 *
 * A record is one string: a head of fields that end in `|`, and the result. One value is read and written at
 * once (a hash of as many fields cost the server twice the time), is evicted or lost in a failover as a whole,
 * and is in one slot of a cluster. The lease is a field of it, compared with the server's clock, and not a key
 * with PX of its own, which could be lost alone and let a second run in. PX remains on the whole, so that
 * retention costs no sweep.
 *
 * Uses after the first are a list beside it, in the same slot: it is history, and losing it costs no promise.
 */
import { createHash } from 'node:crypto'
import { TIMELINE_LENGTH } from '../contract.js'

/** A Lua script and the SHA-1 that Redis knows it by, in hex. */
export interface Script {
  text: string
  sha1: string
}

const COMMON = `
local call, match, sub = redis.call, string.match, string.sub

-- Epoch milliseconds by the server's clock, which all callers share; a test may hand in its own. Numbers of up
-- to 14 digits are written in full.
local function clock(given)
  if given then return tonumber(given) end
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
`

/**
 * KEYS: record, uses. ARGV: token, fingerprint and origin (four texts, each ended by `|`), lease, retention, both
 * together, `use` or `repeat`, `retain` or `rerun`, and a test's clock.
 *
 * Answers a first use by its time alone; any other by outcome, fence, hits, first use, this use, origin, result.
 */
export const CLAIM: Script = script(`
local record, uses, token, intent, lease, retention = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = clock(ARGV[8])

local found = call('GET', record)
local state, owner, fence, hasEffects, keeps, ends, firstUsedAt, payload, origin, at
if found then
  state, owner, fence, hasEffects, keeps, ends, firstUsedAt, payload, origin, at = match(found,
    '^(%a+)|([^|]*)|(%d+)|(%d)|%d+|(%d+)|(%d+)|(%d+)|([^|]*)|([^|]*|[^|]*|[^|]*|)()')
  -- An expired record that Redis has not removed yet: nothing of it may stay.
  if ends + keeps <= now then found = false end
end
if not found then
  call('SET', record, 'claimed|' .. token .. '|1|0|' .. lease .. '|' .. retention .. '|' .. now + lease .. '|' ..
    now .. '|' .. intent, 'PX', ARGV[5])
  return now .. ''
end

local hits = 0
local last = call('LINDEX', uses, -1)
if last then
  local life, count = match(last, '^(%d+)|(%d+)')
  -- Uses of an earlier record of the key may outlive it.
  if life == firstUsedAt then hits = tonumber(count) else call('DEL', uses) end
end

local fingerprint, trace = match(intent, '^([^|]*)|([^|]*)')
local isRepeat, undecided = ARGV[6] == 'repeat', ARGV[7] == 'rerun' and 'takeover' or 'unknown'
local outcome
if state == 'claimed' and owner == token then
  -- The client sent this very claim twice: answer as the first time.
  return { 'won', fence, hits .. '', firstUsedAt, now .. '', origin, '' }
elseif state == 'aborted' then
  outcome = 'won'
elseif payload ~= fingerprint then
  outcome = 'mismatch'
elseif state == 'completed' then
  outcome = 'replay'
elseif state == 'unknown' then
  outcome = undecided
elseif now < tonumber(ends) then
  outcome = 'busy'
elseif hasEffects == '1' then
  outcome = undecided
else
  outcome = 'takeover'
end

if not isRepeat then hits = hits + 1 end
if not (isRepeat and outcome == 'busy') then
  local length = call('RPUSH', uses, firstUsedAt .. '|' .. hits .. '|' .. now .. '|' .. outcome .. '|' .. trace)
  call('PEXPIRE', uses, lease + 2 * retention)
  if length >= ${2 * TIMELINE_LENGTH} then call('LTRIM', uses, -${TIMELINE_LENGTH}, -1) end
end
if outcome == 'won' or outcome == 'takeover' then
  fence = fence + 1 .. ''
  call('SET', record, 'claimed|' .. token .. '|' .. fence .. '|0|' .. lease .. '|' .. retention .. '|' ..
    now + lease .. '|' .. firstUsedAt .. '|' .. fingerprint .. '|' .. origin, 'PX', ARGV[5])
end
return { outcome, fence, hits .. '', firstUsedAt, now .. '', origin, outcome == 'replay' and sub(found, at) or '' }
`)

/** KEYS: record. ARGV: verb, token, result, and a test's clock. Answers 1, or 0 when it is refused. */
export const SETTLE: Script = script(`
local record, verb, token, result = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local found = call('GET', record)
if not found then return 0 end
local state, owner, fence, hasEffects, lease, retention, ends, at = match(found,
  '^(%a+)|([^|]*)|(%d+)|(%d)|(%d+)|(%d+)|(%d+)|()')
local now = clock(ARGV[4])
-- Refused: another run owns the record, or it is gone.
if owner ~= token or ends + retention <= now then return 0 end

local ending = verb == 'complete' and 'completed' or verb == 'abort' and 'aborted' or verb == 'markUnknown' and 'unknown'
-- The client sent this very verb twice: answer as the first time.
if state ~= 'claimed' then return state == ending and 1 or 0 end

local lives = retention
if ending then
  ends = now
else
  ending, ends, lives = state, now + lease, lease + retention
  if verb == 'markEffects' then hasEffects = '1' end
end
call('SET', record, ending .. '|' .. token .. '|' .. fence .. '|' .. hasEffects .. '|' .. lease .. '|' .. retention ..
  '|' .. ends .. '|' .. sub(found, at) .. result, 'PX', lives)
return 1
`)

/** KEYS: record, uses. Answers the record, or nothing, and then the uses. */
export const READ: Script = scriptOf(`
local found = redis.call('GET', KEYS[1])
if not found then return {} end
local answer = redis.call('LRANGE', KEYS[2], -${TIMELINE_LENGTH}, -1)
table.insert(answer, 1, found)
return answer
`)

function script(body: string): Script {
  return scriptOf(COMMON + body)
}

/** Names a script as Redis does. */
export function scriptOf(text: string): Script {
  return { text, sha1: createHash('sha1').update(text).digest('hex') }
}

/**
 * Runs a script by its name and, when the server does not know it, by its text: once per server, and again
 * after a restart or SCRIPT FLUSH.
 */
export async function orLoading(
  known: () => Promise<unknown>,
  load: () => Promise<unknown>,
): Promise<unknown> {
  try {
    return await known()
  } catch (error) {
    // REST clients put words of their own before the server's.
    if (error instanceof Error && /^(?:Command failed: )?NOSCRIPT\b/.test(error.message)) return load()
    throw error
  }
}

/**
 * A client's error without the command it failed on, and so without the result that was to be stored: ioredis
 * hangs the command on the error, the REST clients quote it in the message.
 */
export function withoutCommand(error: unknown): Error {
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) }
  const [short = ''] = message.split(/,? command was:/i, 1)
  return Object.assign(new Error(short), { name })
}
