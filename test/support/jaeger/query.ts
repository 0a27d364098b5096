/** What a Jaeger has, by its HTTP interface. */

export interface JaegerSpan {
  traceId: string
  spanId: string
  /** Undefined for the first span of a trace. */
  parentSpanId: string | undefined
  name: string
  service: string
  attributes: Readonly<Record<string, unknown>>
  links: { traceId: string; spanId: string }[]
}

export interface JaegerQuery {
  services(): Promise<string[]>
  /** The spans of a trace; none when it is not there. */
  trace(traceId: string): Promise<JaegerSpan[]>
  /** IDs of the traces of a service, of which one span has these tags. */
  search(service: string, tags?: Readonly<Record<string, string>>): Promise<string[]>
  /** What Jaeger remarks on the spans of a trace: clock skew, a parent that is missing. */
  warnings(traceId: string): Promise<string[]>
}

interface OtlpAttribute {
  key: string
  value: Record<string, unknown>
}

interface OtlpSpan {
  traceId: string
  spanId: string
  parentSpanId?: string
  name: string
  attributes?: OtlpAttribute[]
  links?: { traceId: string; spanId: string }[]
}

interface OtlpTraces {
  result: {
    resourceSpans: {
      resource: { attributes?: OtlpAttribute[] }
      scopeSpans: { spans: OtlpSpan[] }[]
    }[]
  }
}

/** Traces by version 3 of the interface, searches by the one before: version 3 knows no tags in Jaeger 2.13. */
export function queryJaeger(url: string): JaegerQuery {
  const read = async <T>(path: string): Promise<T | undefined> => {
    const response = await fetch(url + path)
    if (response.status === 404) return undefined
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
    return (await response.json()) as T
  }
  return {
    async services() {
      return (await read<{ services: string[] }>('/api/v3/services'))?.services ?? []
    },
    async trace(traceId) {
      const found = await read<OtlpTraces>(`/api/v3/traces/${traceId}`)
      return found === undefined ? [] : spansOf(found)
    },
    async search(service, tags = {}) {
      const parameters = new URLSearchParams({ service, tags: JSON.stringify(tags), limit: '1000' })
      const found = await read<{ data: { traceID: string }[] }>(`/api/traces?${parameters}`)
      return (found?.data ?? []).map(({ traceID }) => traceID)
    },
    async warnings(traceId) {
      type Trace = { warnings: string[] | null; spans: { warnings: string[] | null }[] }
      const found = await read<{ data: Trace[] }>(`/api/traces/${traceId}`)
      return (found?.data ?? []).flatMap(({ warnings, spans }) => [
        ...(warnings ?? []),
        ...spans.flatMap((span) => span.warnings ?? []),
      ])
    },
  }
}

function spansOf({ result }: OtlpTraces): JaegerSpan[] {
  return result.resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = String(valuesOf(resource.attributes)['service.name'] ?? '')
    return scopeSpans.flatMap(({ spans }) =>
      spans.map(({ traceId, spanId, parentSpanId, name, attributes, links = [] }) => ({
        ...{ traceId, spanId, name, service, links },
        parentSpanId: parentSpanId || undefined,
        attributes: valuesOf(attributes),
      })),
    )
  })
}

function valuesOf(attributes: readonly OtlpAttribute[] = []): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]))
}
