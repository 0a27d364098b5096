/** How much waits, and for how long: gauges that are read from the queue when they are collected. */
import { type BatchObservableCallback, metrics } from '@opentelemetry/api'
import type { Row } from '../postgres/database.js'
import { ATTRIBUTE, METRIC, SCOPE } from '../telemetry/names.js'
import { untraced } from '../telemetry/untraced.js'
import type { OrderPolicy } from './order.js'
import { deadLetterOf } from './queue.js'

export interface WatchedQueue {
  schema: string
  topics: readonly { topic: string; policy: OrderPolicy | undefined }[]
  rows(text: string, values: unknown[]): Promise<Row[]>
}

const STATES = ['ready', 'deferred', 'active', 'dead'] as const

/** Begins to report, to the meter provider that is registered now. Returns how to end it. */
export function watchQueue({ schema, topics, rows }: WatchedQueue): () => void {
  const meter = metrics.getMeter(SCOPE)
  const messages = meter.createObservableGauge(METRIC.outboxMessages, { unit: '{message}' })
  const oldestAge = meter.createObservableGauge(METRIC.outboxOldestAge, { unit: 's' })
  const statement = depthStatement(schema, topics.length * 2)
  const values = topics.flatMap(({ topic }) => [topic, deadLetterOf(topic)])

  const observe: BatchObservableCallback = async (result) => {
    // A database that does not answer is told of elsewhere; a gauge that is not set is the sign here.
    const depths = await untraced(() => rows(statement, values)).catch(() => undefined)
    if (depths === undefined) return
    for (const { topic, policy } of topics) {
      const labels = { [ATTRIBUTE.outboxTopic]: topic }
      const own = depths.find((row) => row.name === topic)
      const dead = depths.find((row) => row.name === deadLetterOf(topic))
      // Under 'block' a message that failed for good stays where it is; elsewhere its copy is what counts.
      const numbers: Row = { ...own, dead: policy === 'block' ? own?.failed : dead?.ready }
      for (const state of STATES)
        result.observe(messages, Number(numbers[state] ?? 0), { ...labels, [ATTRIBUTE.outboxState]: state })
      result.observe(oldestAge, Math.max(0, Number(own?.age ?? 0)), labels)
    }
  }
  meter.addBatchObservableCallback(observe, [messages, oldestAge])
  return () => meter.removeBatchObservableCallback(observe, [messages, oldestAge])
}

// As texts and plain numbers, which every driver reads alike.
function depthStatement(schema: string, names: number): string {
  const isReady = `state < 'active' AND start_after <= now()`
  const placeholders = Array.from({ length: names }, (_, index) => `$${index + 1}`).join(', ')
  return `SELECT name,
      count(*) FILTER (WHERE ${isReady})::int AS ready,
      count(*) FILTER (WHERE state < 'active' AND start_after > now())::int AS deferred,
      count(*) FILTER (WHERE state = 'active')::int AS active,
      count(*) FILTER (WHERE state = 'failed')::int AS failed,
      extract(epoch FROM now() - min(GREATEST(created_on, start_after)) FILTER (WHERE ${isReady}))::float8 AS age
    FROM ${schema}.job
    WHERE name IN (${placeholders}) AND state NOT IN ('completed', 'cancelled')
    GROUP BY name`
}
