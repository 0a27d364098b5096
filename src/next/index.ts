export { action } from './action.js'
export type { ActionOutcome } from './control-flow.js'
export {
  type ActionRun,
  formField,
  type IdempotentActionOptions,
  idempotentAction,
  type KeyReader,
} from './idempotent-action.js'
export { type IdempotentRouteOptions, idempotentRoute } from './idempotent-route.js'
export type { LoggedRun } from './logged-run.js'
export { type Proxy, type WithCorrelationOptions, withCorrelation } from './with-correlation.js'
export { withThroughline } from './with-throughline.js'
