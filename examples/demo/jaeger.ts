/** A Jaeger that is there already: where the demo's spans are sent with `--jaeger`, and the links to them. */

/** `JAEGER_URL` is its page, `OTEL_EXPORTER_OTLP_ENDPOINT` where it takes spans. */
const PAGE = process.env.JAEGER_URL ?? 'http://localhost:16686'
const ENDPOINT = process.env.OTEL_EXPORTER_OTLP_ENDPOINT ?? 'http://localhost:4318'

/** For the app and its worker. Jaeger takes traces alone. */
export const JAEGER_ENVIRONMENT: Readonly<Record<string, string>> = {
  OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT,
  OTEL_LOGS_EXPORTER: 'none',
  OTEL_METRICS_EXPORTER: 'none',
}

/** @throws {Error} which says how to start one, where none answers */
export async function checkJaeger(): Promise<void> {
  try {
    const { ok, status } = await fetch(`${PAGE}/api/v3/services`)
    if (!ok) throw new Error(`it answered ${status}`)
  } catch (error) {
    throw new Error(
      `No Jaeger answers at ${PAGE} (${error instanceof Error ? error.message : error}). Start one:\n` +
        '  docker run --rm -p 16686:16686 -p 4318:4318 jaegertracing/jaeger:latest\n' +
        '  "$(test/support/jaeger/install.sh)"    built with Go: the interface is whole, its page is a placeholder\n' +
        'or name it: JAEGER_URL, OTEL_EXPORTER_OTLP_ENDPOINT.',
      { cause: error },
    )
  }
}

export function linkTo(traceId: string): string {
  return `${PAGE}/trace/${traceId}`
}

/** The traces in which a key was used again. */
export const HITS_LINK = `${PAGE}/search?service=checkout&tags=${encodeURIComponent('{"idempotency.hit":"true"}')}`
