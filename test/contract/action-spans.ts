/** What the tests of actions share: recorded spans, and each way in which Next lets an action end by a throw. */
import { type Span, trace } from '@opentelemetry/api'
import { node, tracing } from '@opentelemetry/sdk-node'
import { forbidden, notFound, permanentRedirect, redirect, unauthorized } from 'next/navigation.js'
import { afterEach, expect } from 'vitest'
import { correlationSpanProcessor } from '../../src/telemetry/sdk-pieces.ts'

// Next's own switch for forbidden() and unauthorized(): `experimental.authInterrupts`.
process.env.__NEXT_EXPERIMENTAL_AUTH_INTERRUPTS = 'true'

export const CONTROL_FLOW: [call: string, end: () => never, outcome: string][] = [
  ['redirect()', () => redirect('/thanks?id=7;8'), 'redirect'],
  ['permanentRedirect()', () => permanentRedirect('/thanks'), 'redirect'],
  ['notFound()', notFound, 'not_found'],
  ['forbidden()', forbidden, 'forbidden'],
  ['unauthorized()', unauthorized, 'unauthorized'],
]

/** Records the spans of this test file; emptied after each test. Call once, at the top. */
export function recordSpans() {
  const exporter = new tracing.InMemorySpanExporter()
  new node.NodeTracerProvider({
    spanProcessors: [correlationSpanProcessor(), new tracing.SimpleSpanProcessor(exporter)],
  }).register()
  afterEach(() => exporter.reset())

  const spansNamed = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name)
  return {
    spansNamed,
    /** The one span of that name. */
    spanNamed(name: string): tracing.ReadableSpan {
      const [span, ...others] = spansNamed(name)
      expect(others).toEqual([])
      return span ?? expect.unreachable(`There is no span named ${name}.`)
    },
  }
}

/** Starts a span; the first of a request is the one that Next would start. */
export function startSpan(name: string): Span {
  return trace.getTracer('test').startSpan(name)
}
