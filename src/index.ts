export {
  DEFAULT_CORRELATION_HEADER,
  getContext,
  getCorrelationId,
  isCorrelationId,
  type RequestContext,
  runWithCorrelation,
  tryGetContext,
} from './context/index.js'
export { isThroughlineError, ThroughlineError, type ThroughlineErrorCode } from './errors.js'
