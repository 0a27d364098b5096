/** Starts of a request's spans agree with each other, finer than the millisecond of the system's clock. */
import { type HrTime, trace } from '@opentelemetry/api'
import { describe, expect, it } from 'vitest'
import { recordSpans, type Span } from '../support/traced-requests.ts'

const recorder = recordSpans()
const tracer = trace.getTracer('test')
const microseconds = ([seconds, nanoseconds]: HrTime) => seconds * 1e6 + nanoseconds / 1e3

describe('the start of a span in a request', () => {
  it('comes after that of the span that started before it, and no span outlasts the one around it', async () => {
    const spans = await recorder.spansOf('order-1', async () => {
      for (let n = 0; n < 300; n += 1)
        tracer.startActiveSpan(`outer ${n}`, (outer) => {
          tracer.startSpan(`inner ${n}`).end()
          outer.end()
        })
    })
    const named = new Map<string, Span>(spans.map((span) => [span.name, span]))
    let lastUs = 0
    for (let n = 0; n < 300; n += 1) {
      const [outer, inner] = [`outer ${n}`, `inner ${n}`].map((name) => named.get(name) as Span)
      for (const span of [outer, inner]) {
        const startUs = microseconds((span as Span).startTime)
        expect(startUs).toBeGreaterThan(lastUs)
        lastUs = startUs
      }
      expect(microseconds((inner as Span).endTime)).toBeLessThanOrEqual(microseconds((outer as Span).endTime))
    }
    const request = recorder.requestSpan()
    expect(lastUs).toBeLessThan(microseconds(request.endTime))
    expect(Math.abs(microseconds(request.startTime) / 1e3 - Date.now())).toBeLessThan(60_000)
  })

  it('is left as it is where whoever started it said when', async () => {
    const [span] = await recorder.spansOf('order-2', async () => {
      tracer.startSpan('told', { startTime: new Date(1_795_000_000_123) }).end()
    })
    expect(span?.startTime).toEqual([1_795_000_000, 123_000_000])
  })
})
