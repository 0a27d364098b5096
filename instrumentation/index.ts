/**
 * What a Next app's `instrumentation.ts` calls.
 *
 * @example
 * // instrumentation.ts: the whole set-up
 * export { register, onRequestError } from 'throughline/instrumentation'
 *
 * This module is bundled for Node and for edge. Everything that needs Node is behind a dynamic import that
 * the edge bundle leaves out.
 */

import type { ThroughlineOptions } from './options.js'
import type { RequestErrorContext, RequestErrorRequest } from './request-error.js'

export {
  correlationIdGenerator,
  correlationPropagator,
  correlationSpanProcessor,
} from '../src/telemetry/sdk-pieces.js'
export type { ThroughlineOptions } from './options.js'

/** The two functions Next calls. */
export interface Instrumentation {
  /** Sets everything up, once per process; a second call (a reload in development) does nothing. */
  register(): Promise<void>
  /** Logs an error that reached Next, with its digest and the request's ID. */
  onRequestError(error: unknown, request: RequestErrorRequest, context: RequestErrorContext): Promise<void>
}

/**
 * The set-up with options.
 *
 * @example export const { register, onRequestError } = throughline({ serviceName: 'shop' })
 */
export function throughline(options: ThroughlineOptions = {}): Instrumentation {
  return {
    async register() {
      if (process.env.NEXT_RUNTIME === 'edge') {
        const { registerEdge } = await import('./edge.js')
        await registerEdge(options)
      } else {
        const { registerNode } = await import('./node.js')
        await registerNode(options)
      }
    },
    async onRequestError(error, request, context) {
      // A branch, not an early return: webpack would bundle what comes after that for edge, in development.
      if (process.env.NEXT_RUNTIME !== 'edge') {
        const { logRequestError } = await import('./request-error.js')
        logRequestError(error, request, context)
      }
    },
  }
}

export const { register, onRequestError } = throughline()
