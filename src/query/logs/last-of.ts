/** The last of many values, in memory for these few. */

/** So many more are kept: to take one off the front of a long list moves all others. */
const SLACK = 10_000

/** In their order. */
export async function lastOf<T>(values: AsyncIterable<T>, count: number): Promise<T[]> {
  let last: T[] = []
  for await (const value of values) {
    last.push(value)
    if (last.length >= count + SLACK) last = last.slice(-count)
  }
  return last.slice(-count)
}
