/**
 * The Postgres stores' statements: the machine of `record.ts`, run inside the server. Postgres 12 and later,
 * PGlite.
 *
 * Each statement takes texts and answers one row of one text, so that it is the same through every driver,
 * whatever its type parsers and its names of columns. `INSERT … ON CONFLICT DO UPDATE … RETURNING` is the one
 * form that waits for another transaction's row and then sees it: a `DO NOTHING` with a `SELECT` beside it
 * answers no row at all when it has waited.
 */
import { TIMELINE_LENGTH } from '../contract.js'

/** The statements of one table. */
export interface PostgresStatements {
  /** $1 key, $2 token, $3 fingerprint, $4 lease, $5 retention, $6–$8 origin, $9 repeat, $10 clock, $11 onUnknown. */
  claim: string
  /** As `claim`, with $12: how long to wait for another transaction, in milliseconds. */
  claimWithin: string
  /** $1 key, $2 token, $3 verb, $4 result, $5 clock. */
  settle: string
  /** $1 key, $2 clock. */
  read: string
  /** $1 clock. Removes up to 1,000 records whose retention is over. */
  sweep: string
  /** Whether the table is there, and whether the server may be written to. */
  look: string
}

// By the server's clock, which all callers share, in whole milliseconds; a test may hand in its own.
const clock = (parameter: string) =>
  `COALESCE('epoch'::timestamptz + ${parameter}::text::float8 * interval '1 millisecond',
    date_trunc('milliseconds', clock_timestamp()))`
const interval = (parameter: string) => `${parameter}::text::float8 * interval '1 millisecond'`
const epochMs = (time: string) => `round(extract(epoch FROM ${time}) * 1000)::bigint`

/** @param table as it stands in SQL: checked by `tableOf` */
export function statementsOf(table: string): PostgresStatements {
  return {
    claim: claimStatement(table, `SELECT ${clock('$10')} AS now`),
    // The caller's own lock_timeout counts again once the claim is made.
    claimWithin: claimStatement(
      table,
      `SELECT ${clock('$10')} AS now,
      set_config('throughline.lock_timeout', current_setting('lock_timeout'), true),
      set_config('lock_timeout', $12::text, true)`,
      `, 'lockTimeout', set_config('lock_timeout', current_setting('throughline.lock_timeout'), true)`,
    ),
    settle: `
WITH this AS (SELECT ${clock('$5')} AS now, CASE $3::text
    WHEN 'complete' THEN 'completed' WHEN 'abort' THEN 'aborted' WHEN 'markUnknown' THEN 'unknown' END AS ending),
owned AS (SELECT r.state FROM ${table} AS r, this WHERE r.key = $1::text AND r.token = $2::text AND r.expires_at > this.now),
settled AS (
  UPDATE ${table} AS r SET
    state = COALESCE(this.ending, r.state),
    result = CASE WHEN this.ending = 'completed' THEN $4::text::json END,
    has_effects = r.has_effects OR $3::text = 'markEffects',
    lease_ends_at = this.now + CASE WHEN this.ending IS NULL THEN r.lease ELSE interval '0' END,
    expires_at = this.now + r.retention + CASE WHEN this.ending IS NULL THEN r.lease ELSE interval '0' END
  FROM this
  WHERE r.key = $1::text AND r.token = $2::text AND r.state = 'claimed' AND r.expires_at > this.now
  RETURNING 1)
SELECT CASE WHEN EXISTS (SELECT FROM settled)
  -- The same verb sent twice is answered as the first time.
  OR EXISTS (SELECT FROM owned, this WHERE owned.state = this.ending) THEN 'accepted' ELSE 'refused' END AS answer`,
    read: `
SELECT json_build_object('state', r.state, 'fingerprint', r.fingerprint, 'token', r.token, 'fence', r.fence,
  'hasEffects', r.has_effects, 'traceId', r.origin_trace_id, 'spanId', r.origin_span_id,
  'correlationId', r.origin_correlation_id, 'firstUsedAt', ${epochMs('r.first_used_at')}, 'hits', r.hits,
  'uses', r.uses, 'result', r.result, 'leaseMs', ${epochMs('r.lease')}, 'retentionMs', ${epochMs('r.retention')},
  'leaseEndsAt', ${epochMs('r.lease_ends_at')}, 'expiresAt', ${epochMs('r.expires_at')})::text AS answer
FROM ${table} AS r WHERE r.key = $1::text AND r.expires_at > ${clock('$2')}`,
    sweep: `
WITH expired AS (SELECT key FROM ${table} WHERE expires_at <= (SELECT ${clock('$1')}) LIMIT 1000 FOR UPDATE SKIP LOCKED),
swept AS (DELETE FROM ${table} AS r USING expired WHERE r.key = expired.key RETURNING 1)
SELECT count(*)::text AS answer FROM swept`,
    look: `
SELECT json_build_object('hasTable', to_regclass('${table}') IS NOT NULL, 'isReplica', pg_is_in_recovery())::text AS answer`,
  }
}

function claimStatement(table: string, source: string, answered = ''): string {
  const use = (outcome: string) =>
    `jsonb_build_object('at', ${epochMs('EXCLUDED.last_used_at')}, 'outcome', ${outcome}, 'traceId', EXCLUDED.origin_trace_id)`
  return `
INSERT INTO ${table} AS r (key, state, fingerprint, token, fence, has_effects,
  origin_trace_id, origin_span_id, origin_correlation_id, first_used_at, last_used_at, last_outcome, hits, uses,
  result, lease, retention, lease_ends_at, expires_at)
SELECT $1::text, 'claimed', $3::text, $2::text, 1, false, $6::text, $7::text, $8::text, now, now, 'won', 0,
  jsonb_build_array(jsonb_build_object('at', ${epochMs('now')}, 'outcome', 'won', 'traceId', $6::text)),
  NULL, ${interval('$4')}, ${interval('$5')}, now + ${interval('$4')}, now + ${interval('$4')} + ${interval('$5')}
FROM (${source}) AS this
ON CONFLICT (key) DO UPDATE SET (state, fingerprint, token, fence, has_effects,
  origin_trace_id, origin_span_id, origin_correlation_id, first_used_at, last_used_at, last_outcome, hits, uses,
  result, lease, retention, lease_ends_at, expires_at) = (
  SELECT
    CASE WHEN runs THEN 'claimed' ELSE r.state END,
    CASE WHEN runs THEN EXCLUDED.fingerprint ELSE r.fingerprint END,
    CASE WHEN runs THEN EXCLUDED.token ELSE r.token END,
    CASE WHEN is_absent THEN 1 WHEN runs THEN r.fence + 1 ELSE r.fence END,
    CASE WHEN runs THEN false ELSE r.has_effects END,
    CASE WHEN is_absent THEN EXCLUDED.origin_trace_id ELSE r.origin_trace_id END,
    CASE WHEN is_absent THEN EXCLUDED.origin_span_id ELSE r.origin_span_id END,
    CASE WHEN is_absent THEN EXCLUDED.origin_correlation_id ELSE r.origin_correlation_id END,
    CASE WHEN is_absent THEN EXCLUDED.first_used_at ELSE r.first_used_at END,
    EXCLUDED.last_used_at,
    outcome,
    CASE WHEN is_absent THEN 0 WHEN is_same OR $9::text = 'repeat' THEN r.hits ELSE r.hits + 1 END,
    CASE WHEN is_absent THEN jsonb_build_array(${use("'won'")})
      WHEN is_same OR ($9::text = 'repeat' AND outcome = 'busy') THEN r.uses
      ELSE CASE WHEN jsonb_array_length(r.uses) >= ${TIMELINE_LENGTH} THEN r.uses - 0 ELSE r.uses END
        || jsonb_build_array(${use('outcome')}) END,
    CASE WHEN runs THEN NULL ELSE r.result END,
    CASE WHEN runs THEN EXCLUDED.lease ELSE r.lease END,
    CASE WHEN runs THEN EXCLUDED.retention ELSE r.retention END,
    CASE WHEN runs THEN EXCLUDED.lease_ends_at ELSE r.lease_ends_at END,
    CASE WHEN runs THEN EXCLUDED.expires_at ELSE r.expires_at END
  FROM (SELECT r.expires_at <= EXCLUDED.last_used_at AS is_absent) AS age
  CROSS JOIN LATERAL (SELECT NOT is_absent AND r.state = 'claimed' AND r.token = EXCLUDED.token AS is_same) AS twice
  CROSS JOIN LATERAL (SELECT CASE
    -- The client sent this very claim twice: answer as the first time.
    WHEN is_same THEN 'won'
    WHEN is_absent OR r.state = 'aborted' THEN 'won'
    WHEN r.fingerprint <> EXCLUDED.fingerprint THEN 'mismatch'
    WHEN r.state = 'completed' THEN 'replay'
    WHEN r.state = 'claimed' AND EXCLUDED.last_used_at < r.lease_ends_at THEN 'busy'
    WHEN r.state = 'claimed' AND NOT r.has_effects THEN 'takeover'
    WHEN $11::text = 'rerun' THEN 'takeover'
    ELSE 'unknown' END AS outcome) AS decided
  CROSS JOIN LATERAL (SELECT outcome IN ('won', 'takeover') AND NOT is_same AS runs) AS next)
RETURNING json_build_object('outcome', r.last_outcome, 'token', r.token, 'fence', r.fence, 'hits', r.hits,
  'firstUsedAt', ${epochMs('r.first_used_at')}, 'usedAt', ${epochMs('r.last_used_at')},
  'traceId', r.origin_trace_id, 'spanId', r.origin_span_id, 'correlationId', r.origin_correlation_id,
  'result', CASE WHEN r.last_outcome = 'replay' THEN r.result END${answered})::text AS answer`
}
