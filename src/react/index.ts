'use client'

export { IdempotencyKey, type IdempotencyKeyProps } from './idempotency-key.js'
export { SubmitButton, type SubmitButtonProps } from './submit-button.js'
export {
  type IdempotentActionCall,
  type UseIdempotentActionOptions,
  useIdempotentAction,
} from './use-idempotent-action.js'
