/** What an app's `next.config` needs, so that bundling hides no client. */

/** The part of Next's configuration that is read. */
interface NextConfigPart {
  serverExternalPackages?: string[] | undefined
  transpilePackages?: string[] | undefined
}

/** As Next calls a configuration that is a function. */
// biome-ignore lint/suspicious/noExplicitAny: Next's own types are wider, and kept by the caller's.
type ConfigFunction = (phase: string, context: any) => object | Promise<object>

/**
 * Clients that Next bundles unless told otherwise, and that are traced without a line in the app when it does not.
 * `pg` is among Next's own externals.
 */
const TRACED_WHEN_EXTERNAL = ['mysql2']

/**
 * Adds to `serverExternalPackages` what Node has to load to be traced, and changes nothing else. A package that is
 * in your `transpilePackages` is left there: Next refuses it in both.
 *
 * @param config an object, a promise of one, or a function that returns either. Default `{}`
 * @throws {TypeError} for anything else.
 * @example export default withThroughline({ output: 'standalone' })
 */
export function withThroughline<Config extends object = object>(config: Config = {} as Config): Config {
  if (typeof config === 'function') {
    const configure = config as unknown as ConfigFunction
    return (async (phase, context) =>
      extended(await configure(phase, context))) satisfies ConfigFunction as never
  }
  if (config instanceof Promise) return config.then(extended) as never
  if (typeof config !== 'object' || config === null)
    throw new TypeError(
      `withThroughline: "config" must be an object or a function, received ${typeof config}.`,
    )
  return extended(config)
}

// What Next would refuse is left to it.
function extended<Config extends NextConfigPart>(config: Config): Config {
  if (typeof config !== 'object' || config === null) return config
  const { serverExternalPackages = [], transpilePackages = [] } = config
  const isFree = (name: string) => !serverExternalPackages.includes(name) && !transpilePackages.includes(name)
  const added = TRACED_WHEN_EXTERNAL.filter(isFree)
  return added.length === 0
    ? config
    : { ...config, serverExternalPackages: [...serverExternalPackages, ...added] }
}
