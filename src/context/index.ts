export { epochMs } from './clock.js'
export {
  type Correlation,
  type CorrelationSource,
  DEFAULT_CORRELATION_HEADER,
  type HeaderReader,
  isCorrelationId,
  MAX_CORRELATION_ID_LENGTH,
  randomSpanId,
  randomTraceId,
  resolveCorrelation,
} from './correlation.js'
export { processWide } from './process-wide.js'
export {
  type ActionIdentity,
  type CallKind,
  type CallTally,
  closeContext,
  contextStorage,
  countCall,
  createContext,
  getContext,
  getCorrelationId,
  type IdempotencyNote,
  type RequestContext,
  runAndClose,
  runInContext,
  runWithCorrelation,
  tryGetContext,
} from './request-context.js'
