export type { Attempt, Handler } from './attempt.js'
export type { FailedAttempt } from './message.js'
export type { MessageState, OutboxMessage, TopicSummary } from './message-rows.js'
export { type MessageFilter, type Messages, type MessagesOptions, openMessages } from './messages.js'
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
