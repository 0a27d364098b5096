/**
 * Order per key: messages that bear one key are handled one after the other, in the order their transactions commit.
 *
 * The queue takes the oldest message of each key that has none under way. It knows their age by the time at which their
 * transaction *began*, which says nothing about the order of two that wait for one another. So a sender holds a lock on
 * the key until it commits, and its message is given the time at which it has the lock.
 *
 *   'block'   head fails ──► waits, tried again ──► fails for good ──► stays, and holds the key, until somebody
 *                                                                      redrives or discards it
 *   'skip'    head fails ──► waits, tried again ──► fails for good ──► to the dead letters; the next is taken
 */
import { ThroughlineError } from '../errors.js'
import type { Database } from '../postgres/database.js'
import { untraced } from '../telemetry/untraced.js'

/** What happens to the messages behind one that failed for good. */
export type OrderPolicy = 'block' | 'skip'

/** The policy of pg-boss that keeps an order, and the one that keeps none. */
export const ORDERED = 'key_strict_fifo'
export const UNORDERED = 'standard'

const MAX_ORDER_KEY_LENGTH = 255

/**
 * @throws {ThroughlineError} `OUTBOX_ORDER_KEY_MISSING` where the topic keeps an order and none is given.
 * @throws {TypeError} where it keeps none and one is given, or for one that is too long.
 */
export function assertOrderKey(
  topic: string,
  policy: OrderPolicy | undefined,
  orderKey: unknown,
  startAfter: unknown,
): void {
  if (policy === undefined && orderKey === undefined) return
  if (policy === undefined)
    throw new TypeError(
      `outbox.send: "orderKey" was given, but "${topic}" keeps no order. Name it in "order" of createOutbox.`,
    )
  if (orderKey === undefined)
    throw new ThroughlineError(
      'OUTBOX_ORDER_KEY_MISSING',
      `A message for "${topic}" was sent without "orderKey".`,
      {
        why: 'The topic keeps an order, which is kept among the messages of one key.',
        fix: 'Give the key, such as the ID of the order or the customer: { orderKey: order.id }.',
      },
    )
  if (typeof orderKey !== 'string' || orderKey === '' || orderKey.length > MAX_ORDER_KEY_LENGTH)
    throw new TypeError(
      `outbox.send: "orderKey" must be a string of 1 to ${MAX_ORDER_KEY_LENGTH} characters, received ${typeof orderKey === 'string' ? `one of ${orderKey.length}` : typeof orderKey}.`,
    )
  if (startAfter !== undefined)
    throw new TypeError(
      `outbox.send: "startAfter" cannot be kept for "${topic}", whose messages are handled in the order they are sent.`,
    )
}

/** Waits until no other transaction has sent a message of that key and is still open. */
export async function waitForTurn<Tx>(
  database: Database<Tx>,
  tx: Tx,
  place: { schema: string; topic: string; orderKey: string },
): Promise<void> {
  const { schema, topic, orderKey } = place
  // As text, for Prisma has no word for `void`.
  const lock = 'SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text AS locked'
  await untraced(() => database.rows(tx, lock, [`throughline.outbox ${schema} ${topic} ${orderKey}`]))
}

/** Puts the message behind all others of its key. A clock may stand still, or be set back: then by a microsecond. */
export async function putBehind<Tx>(
  database: Database<Tx>,
  tx: Tx,
  place: { schema: string; topic: string; orderKey: string; id: string },
): Promise<void> {
  const { schema, topic, orderKey, id } = place
  const statement = `UPDATE ${schema}.job SET created_on = GREATEST(clock_timestamp(), COALESCE((
       SELECT max(created_on) FROM ${schema}.job
       WHERE name = $1 AND singleton_key = $2 AND id <> $3::uuid
         AND state = 'created' AND NOT blocked AND policy = '${ORDERED}'
     ), '-infinity') + interval '1 microsecond')
     WHERE name = $1 AND id = $3::uuid`
  await untraced(() => database.rows(tx, statement, [topic, orderKey, id]))
}

/**
 * Puts right what attempts left that nobody was there to end, as those of a process that was killed. Under `'skip'`: takes
 * messages out of the way that failed for good, whose copies lie with the dead letters. Under `'block'`: keeps those that
 * hold their key from the queue's own deletion.
 */
export async function tidyKeys(
  run: (text: string, values: unknown[]) => Promise<unknown>,
  place: { schema: string; topic: string; policy: OrderPolicy },
): Promise<void> {
  const { schema, topic, policy } = place
  const failed = `name = $1 AND state = 'failed' AND policy = '${ORDERED}'`
  await run(
    policy === 'skip'
      ? `DELETE FROM ${schema}.job WHERE ${failed} AND dead_letter IS NOT NULL`
      : `UPDATE ${schema}.job SET deletion_seconds = 0 WHERE ${failed} AND deletion_seconds <> 0`,
    [topic],
  )
}
