/**
 * The Redis store's two Lua scripts: the machine of `record.ts`, run inside the server. Stock Redis 7 and
 * Valkey.
 *
 * A record is one hash. The lease is a field of it, compared with the server's clock, and not a key with PX
 * of its own: a record of one key is in one slot of a cluster, is evicted or lost in a failover as a whole
 * (a lost lease key alone would let a second run in), and a renewal writes one place. PX remains on the hash,
 * so that retention costs no sweep. The timeline is a ring of fields, `use:0` to `use:31`.
 */
import { createHash } from 'node:crypto'
import { TIMELINE_LENGTH } from '../contract.js'

/** A Lua script and the SHA-1 that Redis knows it by, in hex. */
export interface Script {
  text: string
  sha1: string
}

const CLOCK = `
-- Epoch milliseconds by the server's clock, which all callers share; a test may hand in its own.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Lua would write a large number as 1.7e+12.
local function text(number)
  return string.format('%.0f', number)
end
`

export const CLAIM: Script = script(`
local record = KEYS[1]
local token, fingerprint = ARGV[1], ARGV[2]
local lease, retention = tonumber(ARGV[3]), tonumber(ARGV[4])
local origin = { trace = ARGV[5], span = ARGV[6], correlation = ARGV[7] }
local isRepeat, now = ARGV[8] == '1', clock(ARGV[9])
local undecided = ARGV[10] == 'rerun' and 'takeover' or 'unknown'

local found = redis.call('HMGET', record, 'state', 'token', 'fingerprint', 'fence', 'hits', 'uses',
  'hasEffects', 'leaseEndsAt', 'expiresAt', 'firstUsedAt', 'originTrace', 'originSpan', 'originCorrelation')
local state, owner, payload, fence, hits, uses = found[1], found[2], found[3], found[4], found[5], found[6]
local hasEffects, leaseEndsAt, expiresAt, firstUsedAt = found[7] == '1', found[8], found[9], found[10]
local isFirst = not state or tonumber(expiresAt) <= now

-- Every change goes out in one HSET.
local changes = {}
local function set(field, value)
  changes[#changes + 1] = field
  changes[#changes + 1] = value
end

if isFirst then
  -- An expired record that Redis has not removed yet: nothing of it may stay.
  if state then redis.call('DEL', record) end
  state, fence, hits, uses, firstUsedAt = 'absent', 0, 0, 0, text(now)
  set('firstUsedAt', firstUsedAt)
  set('originTrace', origin.trace)
  set('originSpan', origin.span)
  set('originCorrelation', origin.correlation)
else
  origin = { trace = found[11], span = found[12], correlation = found[13] }
end

local outcome
if state == 'claimed' and owner == token then
  -- The client sent this very claim twice: answer as the first time.
  return { 'won', token, fence, hits, firstUsedAt, text(now), origin.trace, origin.span, origin.correlation, '' }
elseif state == 'absent' or state == 'aborted' then
  outcome = 'won'
elseif payload ~= fingerprint then
  outcome = 'mismatch'
elseif state == 'completed' then
  outcome = 'replay'
elseif state == 'unknown' then
  outcome = undecided
elseif now < tonumber(leaseEndsAt) then
  outcome = 'busy'
elseif hasEffects then
  outcome = undecided
else
  outcome = 'takeover'
end

if not isFirst and not isRepeat then hits = hits + 1 end
if not (isRepeat and outcome == 'busy') then
  set('hits', text(hits))
  set('uses', text(uses + 1))
  set('use:' .. text(uses % ${TIMELINE_LENGTH}), text(now) .. '|' .. outcome .. '|' .. ARGV[5])
end
if outcome == 'won' or outcome == 'takeover' then
  fence = fence + 1
  set('state', 'claimed')
  set('token', token)
  set('fingerprint', fingerprint)
  set('fence', text(fence))
  set('hasEffects', '0')
  set('leaseMs', text(lease))
  set('retentionMs', text(retention))
  set('leaseEndsAt', text(now + lease))
  set('expiresAt', text(now + lease + retention))
end
if #changes > 0 then redis.call('HSET', record, unpack(changes)) end
if outcome == 'won' or outcome == 'takeover' then redis.call('PEXPIRE', record, text(lease + retention)) end

-- The result may be large: it is read for a replay alone.
local result = outcome == 'replay' and redis.call('HGET', record, 'result') or ''
return { outcome, token, text(fence), text(hits), firstUsedAt, text(now),
  origin.trace, origin.span, origin.correlation, result }
`)

export const SETTLE: Script = script(`
local record = KEYS[1]
local verb, token, result, now = ARGV[1], ARGV[2], ARGV[3], clock(ARGV[4])
local found = redis.call('HMGET', record, 'token', 'state', 'expiresAt', 'leaseMs', 'retentionMs')
local owner, state, lease, retention = found[1], found[2], tonumber(found[4]), tonumber(found[5])

-- Refused: another run owns the record, or it is gone.
if owner ~= token or tonumber(found[3]) <= now then return 0 end

local ends = { complete = 'completed', abort = 'aborted', markUnknown = 'unknown' }
if state ~= 'claimed' then
  -- The client sent this very verb twice: answer as the first time.
  return state == ends[verb] and 1 or 0
end

local lives = retention
if ends[verb] then
  redis.call('HSET', record, 'state', ends[verb], 'expiresAt', text(now + lives))
  if verb == 'complete' then redis.call('HSET', record, 'result', result) end
else
  lives = lease + retention
  redis.call('HSET', record, 'leaseEndsAt', text(now + lease), 'expiresAt', text(now + lives))
  if verb == 'markEffects' then redis.call('HSET', record, 'hasEffects', '1') end
end
redis.call('PEXPIRE', record, text(lives))
return 1
`)

function script(body: string): Script {
  return scriptOf(CLOCK + body)
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
