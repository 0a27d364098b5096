export type { Attempt, Handler } from './attempt.js'
export {
  createOutbox,
  type DrainOptions,
  deadLetterOf,
  type Outbox,
  type OutboxOptions,
  type OutboxWorker,
  type SendMessageOptions,
  type WorkTopicsOptions,
} from './outbox.js'
export { defineTopics, type InputOf, type OutputOf, type PayloadSchema, type Topics } from './topics.js'
