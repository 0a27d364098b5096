export type { Attempt, Handler } from './attempt.js'
export type { FailedAttempt } from './message.js'
export {
  type MessageFilter,
  type MessageState,
  type Messages,
  type MessagesOptions,
  type OutboxMessage,
  openMessages,
  type TopicSummary,
} from './messages.js'
export type { OrderPolicy } from './order.js'
export {
  createOutbox,
  type DrainOptions,
  type Outbox,
  type OutboxOptions,
  type SendMessageOptions,
  type WorkTopicsOptions,
} from './outbox.js'
export { deadLetterOf } from './queue.js'
export { defineTopics, type InputOf, type OutputOf, type PayloadSchema, type Topics } from './topics.js'
export type { OutboxWorker } from './worker.js'
