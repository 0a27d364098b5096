export { onRequestError, register } from 'throughline/instrumentation'
