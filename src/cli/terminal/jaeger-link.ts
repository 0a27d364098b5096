/** Links to traces in Jaeger's page, where `THROUGHLINE_JAEGER_URL` names it. */

/** A trace ID as Jaeger has it: anything else is no part of an address. */
const TRACE_ID = /^[0-9a-f]{32}$/

/** `http://localhost:16686`, without a slash at its end; undefined for what is no address of a page. */
export function jaegerUrlOf(env: Record<string, string | undefined>): string | undefined {
  const given = env.THROUGHLINE_JAEGER_URL?.trim()
  if (!given || !URL.canParse(given)) return undefined
  const { protocol, href } = new URL(given)
  return protocol === 'http:' || protocol === 'https:' ? href.replace(/\/+$/, '') : undefined
}

/** The address of a trace's page; undefined without a Jaeger, or for what is no trace ID. */
export function traceUrl(traceId: string | undefined, jaegerUrl: string | undefined): string | undefined {
  if (jaegerUrl === undefined || traceId === undefined || !TRACE_ID.test(traceId)) return undefined
  return `${jaegerUrl}/trace/${traceId}`
}

/** Makes a text lead to a trace where it is clicked (OSC 8: https://gist.github.com/egmontkob/eb114294efbcd5adb1944c9f3cb5feda). */
export function linkStyle(
  traceId: string | undefined,
  { jaegerUrl, hasLinks }: { jaegerUrl: string | undefined; hasLinks: boolean },
): (text: string) => string {
  const url = hasLinks ? traceUrl(traceId, jaegerUrl) : undefined
  return (text) => (url === undefined ? text : `\x1b]8;;${url}\x1b\\${text}\x1b]8;;\x1b\\`)
}
