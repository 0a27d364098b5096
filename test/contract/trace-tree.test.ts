import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { StoredLog } from '../../src/query/logs/log-files.ts'
import type { StoredSpan } from '../../src/query/traces/span-files.ts'
import { buildTraceTrees, type TraceItem, type TraceTree } from '../../src/query/traces/trace-tree.ts'

describe('the tree of a trace', () => {
  it('has every span and every log line exactly once, whatever the parent pointers say', () => {
    const ids = fc.integer({ min: 0, max: 12 }).map(String)
    const anySpan = fc.record({
      traceId: fc.constantFrom('a', 'b'),
      spanId: ids,
      parentSpanId: fc.option(ids, { nil: undefined }),
      startTimeMs: fc.integer({ min: 0, max: 50 }),
    })
    const anyLog = fc.record({
      traceId: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined }),
      spanId: fc.option(ids, { nil: undefined }),
      timeMs: fc.option(fc.integer({ min: 0, max: 50 }), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.array(anySpan), fc.array(anyLog), (someSpans, someLogs) => {
        const spans = someSpans.map(({ spanId, parentSpanId, ...given }) => span(spanId, parentSpanId, given))
        const logs = someLogs.map((given) => log('x', given))
        const items = buildTraceTrees(spans, logs).flatMap((tree) => flat(tree.items))
        expect(items).toHaveLength(spans.length + logs.length)
        expect(new Set(items.map((item) => (item.kind === 'span' ? item.span : item.log)))).toEqual(
          new Set([...spans, ...logs]),
        )
      }),
    )
  })

  it('orders children and log lines by time', () => {
    const spans = [
      span('late', 'root', { startTimeMs: 30 }),
      span('early', 'root', { startTimeMs: 10 }),
      span('root', undefined, { startTimeMs: 0 }),
    ]
    const logs = [log('between', { spanId: 'root', timeMs: 20 }), log('first', { spanId: 'root', timeMs: 5 })]
    expect(outline(buildTraceTrees(spans, logs))).toEqual([
      'root',
      ' "first"',
      ' early',
      ' "between"',
      ' late',
    ])
  })

  it('puts a log line under its span, else under the request, never under an orphan', () => {
    const spans = [
      span('orphan', 'gone', { startTimeMs: 0 }),
      span('request', undefined, { startTimeMs: 1 }),
      span('query', 'request', { startTimeMs: 2 }),
    ]
    const logs = [
      log('in query', { spanId: 'query' }),
      log('span unknown', { spanId: 'nope' }),
      log('no span', {}),
      log('no trace', { traceId: undefined }),
    ]
    expect(outline(buildTraceTrees(spans, logs))).toEqual([
      'orphan!',
      'request',
      ' query',
      '  "in query"',
      ' "span unknown"',
      ' "no span"',
      ' "no trace"',
    ])
  })

  it('puts a log line beside the spans, in time, when the request itself was not written', () => {
    const spans = [
      span('first', 'request', { startTimeMs: 10 }),
      span('second', 'request', { startTimeMs: 30 }),
    ]
    const logs = [
      log('before', { spanId: 'request', timeMs: 5 }),
      log('between', { spanId: 'request', timeMs: 20 }),
      log('in second', { spanId: 'second', timeMs: 31 }),
      log('after', { spanId: 'request', timeMs: 50 }),
    ]
    expect(outline(buildTraceTrees(spans, logs))).toEqual([
      '"before"',
      'first!',
      '"between"',
      'second!',
      ' "in second"',
      '"after"',
    ])
  })

  it('keeps a log line from after the end of the request, last under the span that wrote it', () => {
    const spans = [
      span('request', undefined, { startTimeMs: 0, durationMs: 20 }),
      span('render', 'request', { startTimeMs: 5, durationMs: 10 }),
      span('late', 'request', { startTimeMs: 40 }),
    ]
    const logs = [
      log('after all', { spanId: 'request', timeMs: 60 }),
      log('after the request', { spanId: 'request', timeMs: 30 }),
      log('after render', { spanId: 'render', timeMs: 70 }),
    ]
    const trees = buildTraceTrees(spans, logs)
    expect(outline(trees)).toEqual([
      'request',
      ' render',
      '  "after render"',
      ' "after the request"',
      ' late',
      ' "after all"',
    ])
    expect(trees).toMatchObject([{ startTimeMs: 0, durationMs: 41 }])
  })

  it('gives a log line that names no trace to the trace that had begun last', () => {
    const spans = [
      span('second', undefined, { traceId: 'b', startTimeMs: 50 }),
      span('first', undefined, { traceId: 'a', startTimeMs: 10 }),
    ]
    const logs = [5, 10, 49, 50, 99, undefined].map((timeMs) =>
      log(`at ${timeMs}`, { traceId: undefined, timeMs }),
    )
    expect(outline(buildTraceTrees(spans, logs))).toEqual([
      ...['first', ' "at undefined"', ' "at 5"', ' "at 10"', ' "at 49"'],
      ...['second', ' "at 50"', ' "at 99"'],
    ])
  })

  it('takes a span for an orphan only when its missing parent was local', () => {
    const [tree] = buildTraceTrees(
      [span('called', 'elsewhere', { isParentRemote: true }), span('lost', 'gone', {})],
      [],
    )
    expect(outline(tree === undefined ? [] : [tree])).toEqual(['called', 'lost!'])
  })

  it('cuts a cycle at its earliest span', () => {
    const spans = [
      span('b', 'a', { startTimeMs: 2 }),
      span('a', 'b', { startTimeMs: 1 }),
      span('self', 'self', { startTimeMs: 9 }),
    ]
    expect(outline(buildTraceTrees(spans, []))).toEqual(['a!', ' b', 'self!'])
  })

  it('makes one tree per trace, and one for log lines whose trace has no spans', () => {
    const spans = [
      span('x', undefined, { traceId: 'second', startTimeMs: 50 }),
      span('x', undefined, { traceId: 'first', startTimeMs: 10 }),
    ]
    const trees = buildTraceTrees(spans, [log('unsampled', { traceId: 'third', timeMs: 70 })])
    expect(trees.map((tree) => tree.traceId)).toEqual(['first', 'second', 'third'])
    expect(buildTraceTrees([], [log('alone', { traceId: undefined })]).map((tree) => tree.traceId)).toEqual([
      undefined,
    ])
  })

  it('is built of a chain of 50 000 spans without overflowing the stack', () => {
    const spans = Array.from({ length: 50_000 }, (_, index) => span(`${index}`, `${index - 1}`, {}))
    expect(flat(buildTraceTrees(spans, [])[0]?.items ?? [])).toHaveLength(50_000)
  })
})

function span(spanId: string, parentSpanId: string | undefined, given: Partial<StoredSpan>): StoredSpan {
  return {
    ...{ traceId: 't', name: spanId, kind: 'internal', isParentRemote: false, startTimeMs: 0, durationMs: 1 },
    ...{ status: 'unset', attributes: {}, events: [], links: [] },
    ...given,
    spanId,
    ...(parentSpanId === undefined ? {} : { parentSpanId }),
  }
}

/** An undefined value stands for a field that the line lacks. */
function log(message: string, given: { [K in keyof StoredLog]?: StoredLog[K] | undefined }): StoredLog {
  const { traceId, spanId, timeMs } = { traceId: 't', timeMs: 100, ...given }
  return {
    ...{ level: 'info', message, fields: {} },
    ...(traceId === undefined ? {} : { traceId }),
    ...(spanId === undefined ? {} : { spanId }),
    ...(timeMs === undefined ? {} : { timeMs }),
  }
}

/** All items, from the top down, without recursion. */
function flat(items: readonly TraceItem[]): TraceItem[] {
  const all: TraceItem[] = []
  const pending = [...items]
  for (let item = pending.pop(); item !== undefined; item = pending.pop()) {
    all.push(item)
    if (item.kind === 'span') pending.push(...item.items)
  }
  return all
}

function outline(trees: readonly TraceTree[]): string[] {
  const linesOf = (item: TraceItem, indent: string): string[] =>
    item.kind === 'log'
      ? [`${indent}"${item.log.message}"`]
      : [
          `${indent}${item.span.name}${item.isOrphan ? '!' : ''}`,
          ...item.items.flatMap((child) => linesOf(child, `${indent} `)),
        ]
  return trees.flatMap((tree) => tree.items.flatMap((item) => linesOf(item, '')))
}
