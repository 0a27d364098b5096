import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import { resources, tracing } from '@opentelemetry/sdk-node'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SpanFileExporter } from '../../instrumentation/local-files/index.ts'
import type { ReadOptions } from '../../src/query/files/ndjson-files.ts'
import { readSpans, type StoredSpan } from '../../src/query/traces/span-files.ts'

let directory: string
let exporter: SpanFileExporter
let provider: tracing.BasicTracerProvider

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'throughline-'))
  exporter = new SpanFileExporter(directory)
  provider = new tracing.BasicTracerProvider({
    resource: resources.resourceFromAttributes({ 'service.name': 'shop' }),
    spanProcessors: [new tracing.BatchSpanProcessor(exporter)],
  })
})

afterEach(async () => {
  await provider.shutdown()
  rmSync(directory, { recursive: true, force: true })
})

describe('the span file exporter', () => {
  it('writes one line per batch, an OTLP/JSON request as the collector writes it', async () => {
    for (const name of ['a', 'b', 'c']) provider.getTracer('test').startSpan(name).end()
    await provider.forceFlush()
    const lines = fileText().trimEnd().split('\n')
    expect(lines).toHaveLength(1)
    const request = JSON.parse(lines[0] ?? '')
    expect(Object.keys(request)).toEqual(['resourceSpans'])
    expect(request.resourceSpans[0].scopeSpans[0].spans[0]).toMatchObject({
      traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
      spanId: expect.stringMatching(/^[0-9a-f]{16}$/),
      startTimeUnixNano: expect.stringMatching(/^\d{19}$/),
    })
  })

  it('writes spans that read back as they were', async () => {
    const origin = { traceId: 'ab'.repeat(16), spanId: 'cd'.repeat(8), traceFlags: 1 }
    const span = provider.getTracer('test').startSpan('POST /checkout', {
      kind: SpanKind.SERVER,
      startTime: [1_795_000_000, 123_456_789],
      attributes: { 'correlation.id': 'order-7', 'idempotency.hit': true, ratio: 0.5, ids: ['a', 'b'] },
      links: [{ context: origin, attributes: { 'idempotency.hit': true } }],
    })
    span.addEvent('idempotency.hit', { hits: 3 }, [1_795_000_000, 130_000_000])
    span.setStatus({ code: SpanStatusCode.ERROR, message: 'declined' })
    span.end([1_795_000_000, 171_956_789])
    await provider.forceFlush()

    const [read, ...others] = await allSpans()
    expect(others).toEqual([])
    expect(read).toEqual({
      ...{ traceId: span.spanContext().traceId, spanId: span.spanContext().spanId, isParentRemote: false },
      ...{ name: 'POST /checkout', kind: 'server', service: 'shop' },
      startTimeMs: expect.closeTo(1_795_000_000_123.4568, 3),
      durationMs: expect.closeTo(48.5, 6),
      ...{ status: 'error', statusMessage: 'declined' },
      attributes: { 'correlation.id': 'order-7', 'idempotency.hit': true, ratio: 0.5, ids: ['a', 'b'] },
      events: [{ name: 'idempotency.hit', timeMs: 1_795_000_000_130, attributes: { hits: 3 } }],
      links: [{ traceId: origin.traceId, spanId: origin.spanId, attributes: { 'idempotency.hit': true } }],
    })
  })

  it('reports a batch it could not write, and never throws', () => {
    const blocked = join(directory, 'blocked')
    writeFileSync(blocked, 'a file where the directory should be')
    const failures: Error[] = []
    const failing = new SpanFileExporter(blocked, { onFailure: (error) => failures.push(error) })
    expect(exportTo(failing)).toMatchObject({ code: 1, error: expect.any(Error) })
    expect(exportTo(failing)).toMatchObject({ code: 1 })
    expect(failures).toHaveLength(1)
  })

  it('refuses batches after its shutdown', async () => {
    await exporter.shutdown()
    expect(exportTo(exporter)).toMatchObject({ code: 1 })
  })
})

describe('span files', () => {
  it('read on past a torn line, lines that are not JSON, and JSON of another shape', async () => {
    provider.getTracer('test').startSpan('kept').end()
    await provider.forceFlush()
    const whole = fileText()
    const odd = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":7},null,"x"]}]},7]}\n'
    writeFileSync(filePath(), `not JSON\n[1]\r\n${odd}\0\n${whole}${whole.slice(0, 100)}`)
    const tally = { files: 0, unreadableLines: 0 }
    const spans = await allSpans({ tally })
    expect(spans.map((span) => span.name)).toEqual(['kept'])
    expect(tally).toMatchObject({ files: 1, unreadableLines: 4 })
  })

  it('are read whatever the writer made of 64-bit integers, enums and values', async () => {
    provider.getTracer('test').startSpan('x').end()
    await provider.forceFlush()
    const span = {
      ...{ traceId: 'AB'.repeat(16), spanId: 'CD'.repeat(8), kind: 'SPAN_KIND_CLIENT', name: 'odd' },
      ...{ startTimeUnixNano: 1_795_000_000_000_000_000, endTimeUnixNano: '1795000000001500000' },
      status: { code: 'STATUS_CODE_ERROR' },
      attributes: [
        { key: 'int', value: { intValue: '7' } },
        { key: 'big', value: { intValue: '9223372036854775807' } },
        { key: 'nan', value: { doubleValue: 'NaN' } },
        { key: 'map', value: { kvlistValue: { values: [{ key: 'a', value: { boolValue: true } }] } } },
        { key: '__proto__', value: { stringValue: 'polluted' } },
        { key: 'none', value: {} },
      ],
    }
    writeFileSync(filePath(), JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }))
    const [read] = await allSpans()
    expect(read).toMatchObject({
      ...{
        traceId: 'ab'.repeat(16),
        spanId: 'cd'.repeat(8),
        kind: 'client',
        status: 'error',
        durationMs: 1.5,
      },
      attributes: { int: 7, big: '9223372036854775807', nan: 'NaN', map: { a: true }, none: null },
    })
    expect(Object.hasOwn(read?.attributes ?? {}, '__proto__')).toBe(true)
    expect(Object.getPrototypeOf(read?.attributes)).toBe(Object.prototype)
  })

  it('skip and count a line too long to hold in memory, and read on', async () => {
    provider.getTracer('test').startSpan('kept').end()
    await provider.forceFlush()
    const whole = fileText()
    writeFileSync(filePath(), `${'x'.repeat(70 * 1024 * 1024)}\n${whole}`)
    const tally = { files: 0, unreadableLines: 0 }
    expect((await allSpans({ tally })).map((span) => span.name)).toEqual(['kept'])
    expect(tally.unreadableLines).toBe(1)
  })

  it('are searched for an ID across the bounds of what is read at once', async () => {
    provider.getTracer('test').startSpan('x').end()
    await provider.forceFlush()
    const lineOf = (id: number, padding: number) =>
      JSON.stringify({
        resourceSpans: [
          {
            scopeSpans: [
              {
                spans: [
                  {
                    traceId: id.toString(16).padStart(32, '0'),
                    spanId: '1'.repeat(16),
                    name: 'x'.repeat(padding),
                  },
                ],
              },
            ],
          },
        ],
      })
    // Lines of uneven length up to 3 MB, so that some begin, end and have their ID at every place of a chunk.
    const sizes = [10, 1_048_400, 7, 3_000_000, 1, 524_288, 524_288, 1_048_576, 99]
    writeFileSync(filePath(), sizes.map((size, id) => lineOf(id + 1, size)).join('\n'))
    for (const [index, size] of sizes.entries()) {
      const containing = [(index + 1).toString(16).padStart(32, '0')]
      const spans = await allSpans({ containing })
      expect(spans.map((span) => span.name.length)).toEqual([size])
    }
    expect(await allSpans()).toHaveLength(sizes.length)
  })
})

function exportTo(target: SpanFileExporter): unknown {
  const memory = new tracing.InMemorySpanExporter()
  const inMemory = new tracing.BasicTracerProvider({
    spanProcessors: [new tracing.SimpleSpanProcessor(memory)],
  })
  inMemory.getTracer('test').startSpan('x').end()
  let result: unknown
  target.export(memory.getFinishedSpans(), (given) => {
    result = given
  })
  return result
}

async function allSpans(options: ReadOptions = {}): Promise<StoredSpan[]> {
  const spans: StoredSpan[] = []
  for await (const span of readSpans(directory, options)) spans.push(span)
  return spans
}

function filePath(): string {
  const [name = ''] = readdirSync(join(directory, 'traces'))
  return join(directory, 'traces', name)
}

function fileText(): string {
  return readFileSync(filePath(), 'utf8')
}
