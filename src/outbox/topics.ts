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

/** Letters, digits, `_ - .`: what pg-boss takes for a queue. */
const TOPIC_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/

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
        `defineTopics: "${topic.slice(0, 40)}" must be 1–100 characters of A-Z a-z 0-9 _ - . and begin with none of the last two.`,
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
 * The payload as its schema gives it.
 *
 * @throws {ThroughlineError} `OUTBOX_PAYLOAD_INVALID`, naming the fields and what is wrong, never their values.
 */
export async function validPayload(schema: PayloadSchema, topic: string, payload: unknown): Promise<unknown> {
  const result = await schema['~standard'].validate(payload)
  if (result.issues === undefined) return result.value
  const faults = result.issues.map(({ path, message }) => `${pathOf(path)}: ${message}`)
  throw new ThroughlineError('OUTBOX_PAYLOAD_INVALID', `The payload for "${topic}" was refused.`, {
    why: `${faults.slice(0, 5).join('; ')}.`,
    fix: 'Send what the schema of the topic takes; nothing was sent.',
  })
}

function pathOf(path: SchemaIssue['path']): string {
  const keys = (path ?? []).map((step) => String(typeof step === 'object' ? step.key : step))
  return keys.length === 0 ? 'the payload' : keys.join('.')
}
