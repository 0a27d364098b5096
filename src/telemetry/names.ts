/**
 * Every name this package emits: span attributes, events, metrics, log fields. Nothing else in the code
 * spells one. Database names are OpenTelemetry's stable conventions
 * (https://opentelemetry.io/docs/specs/semconv/database/); none are registered for correlation or
 * idempotency, so those are ours.
 */

/** Instrumentation scope of our spans and metrics. */
export const SCOPE = 'throughline'

export const ATTRIBUTE = {
  correlationId: 'correlation.id',

  actionName: 'next.server_action.name',
  actionFile: 'next.server_action.file',
  actionOutcome: 'action.outcome',

  idempotencyHit: 'idempotency.hit',
  idempotencyHits: 'idempotency.hits',
  idempotencyOutcome: 'idempotency.outcome',
  idempotencyKeyHash: 'idempotency.key_hash',
  idempotencyGuarantee: 'idempotency.guarantee',
  idempotencyAgeMs: 'idempotency.age_ms',
  idempotencyFence: 'idempotency.fence',
  idempotencyRace: 'idempotency.race',
  idempotencySuspect: 'idempotency.suspect',
  idempotencySuspectKeyHash: 'idempotency.suspect.key_hash',
  idempotencyOriginTraceId: 'idempotency.origin.trace_id',
  idempotencyOriginSpanId: 'idempotency.origin.span_id',
  idempotencyOriginCorrelationId: 'idempotency.origin.correlation_id',

  transactionOutcome: 'transaction.outcome',
  transactionAttempts: 'transaction.attempts',

  outboxTopic: 'outbox.topic',
  outboxAttempt: 'outbox.attempt',
  outboxOutcome: 'outbox.outcome',
  outboxState: 'outbox.state',

  messagingSystem: 'messaging.system',
  messagingOperation: 'messaging.operation.name',
  messagingOperationType: 'messaging.operation.type',
  messagingDestination: 'messaging.destination.name',
  messagingMessageId: 'messaging.message.id',

  dbSystem: 'db.system.name',
  dbOperation: 'db.operation.name',
  dbQueryText: 'db.query.text',
  dbQuerySummary: 'db.query.summary',
  dbCollection: 'db.collection.name',
  dbNamespace: 'db.namespace',
  dbBatchSize: 'db.operation.batch.size',
  serverAddress: 'server.address',
  serverPort: 'server.port',
  errorType: 'error.type',
  errorDigest: 'error.digest',
  exceptionType: 'exception.type',
  exceptionMessage: 'exception.message',
  exceptionStacktrace: 'exception.stacktrace',

  httpMethod: 'http.request.method',
  httpStatus: 'http.response.status_code',
  httpRoute: 'http.route',
  urlFull: 'url.full',
  urlPath: 'url.path',
  nextRoute: 'next.route',
  nextSpanType: 'next.span_type',
} as const

export const EVENT = {
  transactionRetry: 'transaction.retry',
  outboxSent: 'outbox.sent',
  outboxPreviousAttempt: 'outbox.previous_attempt',
  idempotencyHit: 'idempotency.hit',
  idempotencyRace: 'idempotency.race',
  idempotencySuspect: 'idempotency.suspect',
} as const

export const METRIC = {
  /** Counter: uses of idempotency keys, by action, outcome and store. */
  idempotencyRequests: 'idempotency.requests',
  /** Counter: first uses whose payload had come under another key, by action. */
  idempotencySuspects: 'idempotency.suspects',
  /** Histogram, seconds: one claim at the store. */
  idempotencyClaimDuration: 'idempotency.claim.duration',
  /** Histogram, seconds: one action. */
  actionDuration: 'action.duration',
  /** Histogram, seconds: one call of a database or KV client. */
  dbClientOperationDuration: 'db.client.operation.duration',
  /** Histogram, seconds: one call by `fetch` or undici. */
  httpClientRequestDuration: 'http.client.request.duration',
  /** Counter: attempts at messages, by topic and outcome (`handled`, `retried`, `dead`, `returned`, `lost`). */
  outboxAttempts: 'outbox.attempts',
  /** Histogram, seconds: one attempt, by topic. */
  outboxAttemptDuration: 'outbox.attempt.duration',
  /** Gauge: messages that are not done, by topic and state (`ready`, `deferred`, `active`, `dead`). */
  outboxMessages: 'outbox.messages',
  /** Gauge, seconds: how long the oldest message has waited that is ready, by topic. */
  outboxOldestAge: 'outbox.oldest.age',
  /** Counter: calls of the `raceStore` that failed. */
  raceStoreFailures: 'idempotency.race_store.failures',
  /** Counter: correlation headers that were sent and refused. */
  correlationRefused: 'correlation.refused',
} as const

/** Field names of a log line, beside pino's own `level`, `time` and `msg`. */
export const LOG_FIELD = {
  service: 'service',
  correlationId: 'correlation_id',
  traceId: 'trace_id',
  spanId: 'span_id',
  traceFlags: 'trace_flags',
  action: 'action',
  route: 'route',
  method: 'method',
  path: 'path',
  status: 'status',
  durationMs: 'duration_ms',
  aborted: 'aborted',
  idempotency: 'idempotency',
  error: 'err',
  droppedLines: 'dropped_lines',
} as const

/**
 * What a line's field is called on its OTLP log record, where spans have a name for it: theirs. The fields of
 * nested objects are joined by dots first. Any other field keeps its name.
 */
export const LOG_RECORD_ATTRIBUTE: Readonly<Record<string, string>> = {
  [LOG_FIELD.correlationId]: ATTRIBUTE.correlationId,
  [LOG_FIELD.action]: ATTRIBUTE.actionName,
  [LOG_FIELD.route]: ATTRIBUTE.httpRoute,
  [`${LOG_FIELD.idempotency}.suspect_of`]: ATTRIBUTE.idempotencySuspectKeyHash,
  [`${LOG_FIELD.error}.type`]: ATTRIBUTE.exceptionType,
  [`${LOG_FIELD.error}.message`]: ATTRIBUTE.exceptionMessage,
  [`${LOG_FIELD.error}.stack`]: ATTRIBUTE.exceptionStacktrace,
  [`${LOG_FIELD.error}.digest`]: ATTRIBUTE.errorDigest,
}

/** The same for fields that are HTTP's where a line has both `method` and `path`, and anybody's elsewhere. */
export const HTTP_LOG_RECORD_ATTRIBUTE: Readonly<Record<string, string>> = {
  [LOG_FIELD.method]: ATTRIBUTE.httpMethod,
  [LOG_FIELD.path]: ATTRIBUTE.urlPath,
  [LOG_FIELD.status]: ATTRIBUTE.httpStatus,
}
