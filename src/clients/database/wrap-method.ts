/** Wrapping a method of somebody else's class: once, and so that the next one sees it. */

/** A method of any signature, `original` being the one beneath it when it is a wrapper of ours. */
export interface WrappedMethod {
  // biome-ignore lint/suspicious/noExplicitAny: each wrapper names the part of `this` that it reads.
  (this: any, ...args: any[]): any
  original?: WrappedMethod
}

/** Registered, because a bundle may hold its own copy of this module. */
const WRAPPER = Symbol.for('throughline.wrapper')

/** Puts `wrap(method)` in the method's place, unless a wrapper of ours is there. */
export function wrapOnce(owner: object, name: string, wrap: (method: WrappedMethod) => WrappedMethod): void {
  const methods = owner as Record<string, WrappedMethod & { [WRAPPER]?: true }>
  const method = methods[name]
  if (method === undefined || method[WRAPPER]) return
  methods[name] = Object.assign(wrap(method), { [WRAPPER]: true as const, original: method })
}

/** The object of the prototype chain that holds the method: a subclass inherits what is wrapped there. */
export function ownerOf(object: object, name: string): object {
  let owner: object | null = object
  while (owner !== null && !Object.hasOwn(owner, name)) owner = Object.getPrototypeOf(owner)
  return owner ?? object
}

/** True when an OpenTelemetry instrumentation wraps the method too: it makes the spans then. */
export function isShownByOthers(object: object, name: string): boolean {
  const method = (object as Record<string, unknown>)[name] as
    | { __wrapped?: true; original?: object }
    | undefined
  return isShimmed(method) || isShimmed(method?.original as { __wrapped?: true } | undefined)
}

// The mark of `shimmer`, which all of them use.
function isShimmed(method: { __wrapped?: true } | undefined): boolean {
  return method?.__wrapped === true
}
