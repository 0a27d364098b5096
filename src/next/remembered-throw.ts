/**
 * Tells what a guarded body threw from what its guard threw: a refusal that the body got from another
 * guarded run is the body's own affair, since it did run.
 */
export function rememberThrow<Args extends unknown[], Result>(
  body: (...args: Args) => Promise<Result>,
): { body: (...args: Args) => Promise<Result>; isThrownByBody: (error: unknown) => boolean } {
  let thrown: { error: unknown } | undefined
  return {
    async body(...args) {
      try {
        return await body(...args)
      } catch (error) {
        thrown = { error }
        throw error
      }
    },
    isThrownByBody: (error) => thrown !== undefined && thrown.error === error,
  }
}
