/** What an attempt says to the queue of its message: that it is done, that it failed, or that there was no time. */
import type { PgBoss } from 'pg-boss'
import type { Database } from '../postgres/database.js'
import type { AttemptSetUp } from './attempt.js'
import type { Done } from './completion.js'
import { type QueuedJob, withFailure } from './message.js'
import type { OrderPolicy } from './order.js'
import { executorOn } from './queue.js'

export interface SettledQueue {
  boss: PgBoss
  database: Database<unknown>
  schema: string
  topic: string
  policy: OrderPolicy | undefined
}

export function settlementOn(
  queue: SettledQueue,
): Pick<AttemptSetUp<unknown>, 'complete' | 'fail' | 'giveBack'> {
  const { boss, database, schema, topic, policy } = queue
  const on = (tx: unknown) => ({ db: executorOn(database, tx) })
  return {
    async complete(job, where, done) {
      const { affected } = (await boss.complete(topic, job, done, on(where))) as { affected: number }
      return affected === 1
    },

    fail: (job, envelope, failure) =>
      database.transaction(async (tx) => {
        const { affected } = (await boss.fail(topic, job, failure, on(tx))) as { affected: number }
        if (affected === 0) return (await isDoneBy(job, tx)) ? 'done' : 'lost'
        if (job.retryCount < job.retryLimit) {
          const startAfter = randomDelaySeconds(job)
          await boss.update(topic, withFailure(envelope, failure), { id: job.id, startAfter, ...on(tx) })
        } else if (policy === 'skip') await outOfTheWay(job, tx)
        return 'failed'
      }),

    async giveBack(job) {
      // A message that was begun counts one attempt more when it is taken again; this one never was.
      await executorOn(database, 'client').executeSql(
        `UPDATE ${schema}.job
         SET started_on = NULL, state = (CASE WHEN retry_count > 0 THEN 'retry' ELSE 'created' END)::${schema}.job_state
         WHERE name = $1 AND id = $2::uuid AND retry_count = $3::int AND state = 'active'`,
        [topic, job.id, job.retryCount],
      )
    },
  }

  /** The commit of a completion may be there though its answer was lost, or came when the time was over. */
  async function isDoneBy(job: QueuedJob, tx: unknown): Promise<boolean> {
    const known = await boss.getJobById(topic, job.id, on(tx))
    const done = known?.output as Partial<Done> | null | undefined
    return known?.state === 'completed' && done?.attempt === job.retryCount + 1
  }

  /** Its copy lies with the dead letters; what is left of it would hold its key. */
  async function outOfTheWay(job: QueuedJob, tx: unknown): Promise<void> {
    await executorOn(database, tx).executeSql(
      `DELETE FROM ${schema}.job WHERE name = $1 AND id = $2::uuid AND state = 'failed' AND dead_letter IS NOT NULL`,
      [topic, job.id],
    )
  }
}

/** Full jitter: any wait up to the one that doubles, so that what failed together does not come back together. */
function randomDelaySeconds({ retryCount, retryDelayMax }: QueuedJob): number {
  const longest = Math.min(retryDelayMax ?? Number.POSITIVE_INFINITY, 2 ** Math.min(retryCount + 1, 16))
  return Math.round(Math.random() * longest * 1000) / 1000
}
