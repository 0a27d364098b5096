/**
 * `throughline/next` in edge bundles: what runs there. Actions and stores need Node, and webpack refuses
 * `node:` imports in an edge bundle even where they are never reached.
 */
export { type Proxy, type WithCorrelationOptions, withCorrelation } from './with-correlation.js'
