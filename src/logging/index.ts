export { type CreateLoggerOptions, createLogger, logger } from './logger.js'
export type { LogSink } from './sinks.js'
