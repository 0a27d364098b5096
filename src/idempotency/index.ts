export { DEFAULT_MAX_RESULT_BYTES } from './codec.js'
export {
  type Claim,
  type ClaimRequest,
  type ClaimToken,
  type IdempotencyRecord,
  type IdempotencyStore,
  type KeyHistory,
  type KeyUse,
  TIMELINE_LENGTH,
} from './contract.js'
export { fingerprintOf } from './fingerprint.js'
export { global, type Identity, identityOf, type KeySource, MAX_KEY_LENGTH, type Scope } from './identity.js'
export type { Run, RunOnceOptions, ThrownCodec } from './run.js'
export { runOnce } from './run-once.js'
