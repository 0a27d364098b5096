/** Where a log line may carry a secret by accident: fields that pino's `redact` blanks by default. */
const SECRET_FIELDS = [
  'authorization',
  'cookie',
  'set-cookie',
  'password',
  'passwd',
  'secret',
  'token',
  'access_token',
  'refresh_token',
  'api_key',
  'apiKey',
  'idempotencyKey',
  'idempotency_key',
  'idempotency-key',
]

/** Paths for pino's `redact`: each secret at the top of a line, one level down, and in `headers`. */
export const DEFAULT_REDACTED_PATHS: readonly string[] = SECRET_FIELDS.flatMap((field) => [
  `["${field}"]`,
  `*["${field}"]`,
  `*.headers["${field}"]`,
])
