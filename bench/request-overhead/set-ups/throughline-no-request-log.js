import { throughline } from 'throughline/instrumentation'

export const { register, onRequestError } = throughline({ requestLog: false })
