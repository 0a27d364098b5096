/**
 * Wall-clock time in epoch milliseconds, from the monotonic clock: `Date.now()` in a Cache Components
 * prerender aborts the page, `performance.now()` does not.
 */
export function epochMs(): number {
  return Math.round(performance.timeOrigin + performance.now())
}
