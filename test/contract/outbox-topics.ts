/** Schemas of payloads, as a library with the Standard Schema interface makes them. */
import type { PayloadSchema } from '../../src/outbox/index.ts'

/** Takes any payload as it is. */
export function anything<Payload = unknown>(): PayloadSchema<Payload> {
  return {
    '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: value as Payload }) },
  }
}
