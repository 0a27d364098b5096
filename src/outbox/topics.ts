/** What an outbox carries: a schema for the payload of each topic, of any library that has the standard interface. */
import { ThroughlineError } from '../errors.js'

/** The part of Standard Schema that is called (https://standardschema.dev): Zod, Valibot, ArkType and others. */
export interface PayloadSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    validate(value: unknown): SchemaResult<Output> | Promise<SchemaResult<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] }

export interface SchemaIssue {
  readonly message: string
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** Schemas by topic. */
// biome-ignore lint/suspicious/noExplicitAny: a schema of any payload
export type Topics = Readonly<Record<string, PayloadSchema<any, any>>>

/** What is sent to a topic. */
// biome-ignore lint/suspicious/noExplicitAny: of whatever output
export type InputOf<Schema> = Schema extends PayloadSchema<infer Input, any> ? Input : never

/** What its handler gets. */
// biome-ignore lint/suspicious/noExplicitAny: of whatever input
export type OutputOf<Schema> = Schema extends PayloadSchema<any, infer Output> ? Output : never

/** Letters, digits, `_ - .`: what pg-boss takes for a queue, but for its own queues and those of dead letters. */
const TOPIC_NAME = /^(?!__)(?!.*\.dead$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/

/**
 * Names the topics of an outbox, and checks their names.
 *
 * @throws {TypeError} for a name that is no queue's, or a schema without the standard interface.
 * @example defineTopics({ 'payment.charge': z.object({ orderId: z.string(), cents: z.number().int() }) })
 */
export function defineTopics<const Given extends Topics>(topics: Given): Given {
  for (const [topic, schema] of Object.entries(topics)) {
    if (!TOPIC_NAME.test(topic))
      throw new TypeError(
        `defineTopics: "${topic.slice(0, 40)}" must be 1–100 characters of A-Z a-z 0-9 _ - . that begin with none of the last two nor "__", and do not end in ".dead".`,
      )
    if (typeof schema?.['~standard']?.validate !== 'function')
      throw new TypeError(`defineTopics: the schema of "${topic}" has no Standard Schema interface.`)
  }
  return topics
}

/** The schema of a topic. @throws {ThroughlineError} `OUTBOX_TOPIC_UNKNOWN` */
export function schemaOf(topics: Topics, topic: string): PayloadSchema {
  const schema = Object.hasOwn(topics, topic) ? topics[topic] : undefined
  if (schema !== undefined) return schema
  throw new ThroughlineError(
    'OUTBOX_TOPIC_UNKNOWN',
    'A message names a topic that the outbox was not given.',
    {
      why: `It has ${Object.keys(topics).join(', ') || 'none'}.`,
      fix: 'Name one of these, or add the topic to defineTopics.',
    },
  )
}

/**
 * The payload as it will be stored, if its schema takes it in that form: a handler gets what the schema makes of it.
 *
 * @throws {ThroughlineError} `OUTBOX_PAYLOAD_INVALID`, naming the fields and what is wrong, never their values.
 */
export async function storablePayload(
  schema: PayloadSchema,
  topic: string,
  payload: unknown,
): Promise<unknown> {
  const stored = jsonOf(topic, payload)
  const { faults } = await checked(schema, stored)
  if (faults === undefined) return stored
  throw refusedError(
    topic,
    faults,
    'Send what the schema of the topic takes, as JSON has it; nothing was sent.',
  )
}

/**
 * What the schema makes of a payload that was stored.
 *
 * @throws {ThroughlineError} `OUTBOX_PAYLOAD_INVALID`
 */
export async function handledPayload(
  schema: PayloadSchema,
  topic: string,
  stored: unknown,
): Promise<unknown> {
  const { faults, value } = await checked(schema, stored)
  if (faults === undefined) return value
  throw refusedError(
    topic,
    faults,
    'It was sent under another schema: let the new one take it, or discard the message.',
  )
}

async function checked(
  schema: PayloadSchema,
  payload: unknown,
): Promise<{ faults?: string; value?: unknown }> {
  const result = await schema['~standard'].validate(payload)
  if (result.issues === undefined) return { value: result.value }
  const faults = result.issues.map(({ path, message }) => `${pathOf(path)}: ${message}`)
  return { faults: faults.slice(0, 5).join('; ') }
}

/** In JSON text: what Postgres keeps in no text, the character NUL and half of a surrogate pair. */
const UNSTORABLE = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/i

function jsonOf(topic: string, payload: unknown): unknown {
  let text: string | undefined
  try {
    text = JSON.stringify(payload)
  } catch (error) {
    throw refusedError(
      topic,
      `it is not JSON: ${(error as Error).message}`,
      'Send plain data; nothing was sent.',
    )
  }
  if (text !== undefined && UNSTORABLE.test(text))
    throw refusedError(
      topic,
      'it has a text with the character NUL, or with half of a surrogate pair',
      'Leave such characters out; nothing was sent.',
    )
  return text === undefined ? undefined : JSON.parse(text)
}

function refusedError(topic: string, why: string, fix: string): ThroughlineError {
  return new ThroughlineError('OUTBOX_PAYLOAD_INVALID', `The payload for "${topic}" was refused.`, {
    why: `${why}.`,
    fix,
  })
}

function pathOf(path: SchemaIssue['path']): string {
  const keys = (path ?? []).map((step) => String(typeof step === 'object' ? step.key : step))
  return keys.length === 0 ? 'the payload' : keys.join('.')
}
