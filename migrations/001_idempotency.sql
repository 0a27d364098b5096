-- Records of idempotency keys: one row per key. A row outlives its run by its retention.
CREATE TABLE IF NOT EXISTS throughline_idempotency (
  -- SHA-256 of scope, name and key, in hex. The key itself is never stored.
  key text PRIMARY KEY,
  state text NOT NULL CHECK (state IN ('claimed', 'completed', 'aborted', 'unknown')),
  -- SHA-256 of the payload: the same key with another payload is refused.
  fingerprint text NOT NULL,
  -- Names the current or last run; only its owner may complete it.
  token text NOT NULL,
  fence bigint NOT NULL,
  has_effects boolean NOT NULL,
  -- Where the key was used first.
  origin_trace_id text,
  origin_span_id text,
  origin_correlation_id text,
  first_used_at timestamptz NOT NULL,
  last_used_at timestamptz NOT NULL,
  last_outcome text NOT NULL,
  hits bigint NOT NULL,
  -- The last 32 uses, oldest first: at (epoch milliseconds), outcome, traceId.
  uses jsonb NOT NULL,
  -- What a repeat is answered with, present when completed: a text, written as JSON.
  result json,
  lease interval NOT NULL,
  retention interval NOT NULL,
  lease_ends_at timestamptz NOT NULL,
  -- From here on the row counts as absent, and may be deleted.
  expires_at timestamptz NOT NULL
-- Every use of a key updates its row: room on the page keeps the update off the indexes.
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS throughline_idempotency_expires_at ON throughline_idempotency (expires_at);
