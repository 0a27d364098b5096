export { type CreateLoggerOptions, createLogger, logger, setLoggingDefaults } from './logger.js'
export { logRequestCompleted, type RequestEnd } from './request-line.js'
export { addLogSink, type LogSink } from './sinks.js'
