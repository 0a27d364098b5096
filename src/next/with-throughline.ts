/** What an app's `next.config` needs, so that bundling hides no client. */
import type { NextConfig } from 'next'

/** The ways Next takes a configuration. */
type ConfigFunction = (
  phase: string,
  context: { defaultConfig: NextConfig },
) => NextConfig | Promise<NextConfig>

/**
 * Clients that Next bundles unless told otherwise, and that can be traced without a line in the app when it does not.
 * `pg` is among Next's own externals.
 */
const TRACED_WHEN_EXTERNAL = ['mysql2']

/**
 * Adds to `serverExternalPackages` what has to be loaded by Node to be traced, and changes nothing else. An entry of
 * your own in `transpilePackages` wins: Next refuses a package in both.
 *
 * @param config an object, or a function that returns one or a promise of one
 * @example export default withThroughline({ output: 'standalone' })
 */
export function withThroughline<Config extends NextConfig | ConfigFunction>(config?: Config): Config
export function withThroughline(config: NextConfig | ConfigFunction = {}): NextConfig | ConfigFunction {
  if (typeof config === 'function') return async (...args) => extended(await config(...args))
  if (typeof config !== 'object' || config === null)
    throw new TypeError(
      `withThroughline: "config" must be an object or a function, received ${typeof config}.`,
    )
  return extended(config)
}

function extended(config: NextConfig): NextConfig {
  const { serverExternalPackages = [], transpilePackages = [] } = config
  const added = TRACED_WHEN_EXTERNAL.filter(
    (name) => !serverExternalPackages.includes(name) && !transpilePackages.includes(name),
  )
  if (added.length === 0) return config
  return { ...config, serverExternalPackages: [...serverExternalPackages, ...added] }
}
