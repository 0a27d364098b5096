export { DEFAULT_MAX_RESULT_BYTES } from './codec.js'
export {
  type AnyStore,
  type Claim,
  type ClaimRequest,
  type ClaimToken,
  type IdempotencyRecord,
  type IdempotencyStore,
  type KeyHistory,
  type KeyUse,
  type OwnedClaim,
  type RepeatClaim,
  TIMELINE_LENGTH,
  type Transacted,
  type TransactionalStore,
} from './contract.js'
export { fingerprintOf } from './fingerprint.js'
export { global, type Identity, identityOf, type KeySource, MAX_KEY_LENGTH, type Scope } from './identity.js'
export type { OnUnknown } from './on-unknown.js'
export type { Run, RunOf, RunOnceOptions, ThrownCodec, TransactionRun } from './run.js'
export { runOnce } from './run-once.js'
