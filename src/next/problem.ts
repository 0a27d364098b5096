/** A refusal as an HTTP answer: problem details (RFC 9457), with the statuses of the idempotency-key draft. */
import type { ThroughlineError, ThroughlineErrorCode } from '../errors.js'

interface Problem {
  status: number
  title: string
  /** True when the same request may be answered later. */
  isRetryable?: boolean
}

// draft-ietf-httpapi-idempotency-key-header-07, section 2.7, names 400, 409 and 422; the others are ours.
const PROBLEMS: Partial<Record<ThroughlineErrorCode, Problem>> = {
  IDEMPOTENCY_KEY_MISSING: { status: 400, title: 'Idempotency-Key is missing' },
  IDEMPOTENCY_KEY_MALFORMED: { status: 400, title: 'Idempotency-Key is malformed' },
  IDEMPOTENCY_MISMATCH: { status: 422, title: 'Idempotency-Key is already used' },
  IDEMPOTENCY_BUSY: {
    status: 409,
    title: 'A request is outstanding for this Idempotency-Key',
    isRetryable: true,
  },
  IDEMPOTENCY_UNKNOWN: { status: 409, title: 'The outcome for this Idempotency-Key is not known' },
  IDEMPOTENCY_NOT_REPLAYABLE: { status: 409, title: 'The answer for this Idempotency-Key was not kept' },
  STORE_UNAVAILABLE: { status: 503, title: 'Idempotency cannot be guaranteed now', isRetryable: true },
}

/** Any other refusal: the run took place, and its result was refused. */
const OTHER: Problem = { status: 500, title: 'The result was refused' }

/** @param retryAfterSeconds value of `Retry-After`, where the same request may be answered later */
export function problemResponse({ code, why }: ThroughlineError, retryAfterSeconds: number): Response {
  const { status, title, isRetryable } = PROBLEMS[code] ?? OTHER
  return new Response(JSON.stringify({ type: 'about:blank', title, status, detail: why, code }), {
    status,
    headers: {
      'content-type': 'application/problem+json',
      ...(isRetryable ? { 'retry-after': String(retryAfterSeconds) } : {}),
    },
  })
}
