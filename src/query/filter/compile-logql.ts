/**
 * A filter as the stages of a LogQL query, which find every line that the filter finds, and others: LogQL has no words
 * for some of it (its expressions are RE2's, to it what is missing is empty, and `or` joins no lines with labels). So
 * what Loki answers is filtered again with `matcherOf`.
 *
 * Each stage is a clause of the filter in conjunctive normal form: one `or` of patterns of the line, or one of labels.
 * A clause of both, or one too many, is left out. LogQL has no parameters: each text is quoted.
 */
import { LOG_FIELD } from '../../telemetry/names.js'
import type { FieldPath, Filter, Literal } from './ast.js'
import { type Bounds, boundsOf, type Leaf } from './bounds.js'
import { jsonLinePatterns } from './json-line.js'
import { attributesOf, isInObject, recordFieldOf, severitiesFor } from './otel-fields.js'
import { rankOf } from './ranks.js'
import { caselessPattern, literalPattern } from './re2.js'

/**
 * How lines stand in Loki. `json`: each is a line of JSON, as pino wrote it. `otlp`: each is the body of a log record
 * that came by OTLP, and its attributes are structured metadata.
 */
export type LokiFormat = 'json' | 'otlp'

/** What follows the selector: empty, or stages with a space before each. */
export function compileLogql(filter: Filter, format: LokiFormat): string {
  const leafBounds = format === 'json' ? jsonBounds : otlpBounds
  const clauses = boundsOf(filter, leafBounds, {
    and: (left, right) => [...left, ...right],
    or: eitherOf,
  }).holds
  const stages = [...new Set((clauses ?? []).map(stageOf))].slice(0, MAX_STAGES)
  // What a line says is looked at before its labels are.
  const isOfLabels = (stage: string) => (stage.startsWith('| ') ? 1 : 0)
  const kept = stages.sort((a, b) => isOfLabels(a) - isOfLabels(b))
  while (kept.join('').length > MAX_LENGTH) kept.pop()
  return kept.map((stage) => ` ${stage}`).join('')
}

/** More would cost Loki more than they narrow. */
const MAX_STAGES = 20

const MAX_ALTERNATIVES = 200

/** Characters. Loki refuses a query of 128 KiB. */
const MAX_LENGTH = 60_000

/** One of the lines' patterns matches, or one of the filters of labels. Never both kinds. */
interface Clause {
  of: 'line' | 'labels'
  alternatives: readonly string[]
  /** Every line for which the clause holds has it. */
  text?: string | undefined
}

function eitherOf(left: readonly Clause[], right: readonly Clause[]): Clause[] {
  const clauses: Clause[] = []
  for (const one of left)
    for (const other of right) {
      const isTooMuch = one.alternatives.length + other.alternatives.length > MAX_ALTERNATIVES
      if (one.of !== other.of || isTooMuch || clauses.length === MAX_STAGES) continue
      clauses.push({ of: one.of, alternatives: [...new Set([...one.alternatives, ...other.alternatives])] })
    }
  return clauses
}

function stageOf({ of, alternatives, text }: Clause): string {
  if (of === 'labels') return `| ${alternatives.join(' or ')}`
  const [only = '', ...others] = alternatives
  const pattern = others.length === 0 ? only : alternatives.map((each) => `(?:${each})`).join('|')
  return `${text === undefined ? '' : `|= ${quoted(text)} `}|~ ${quoted(pattern)}`
}

function jsonBounds(leaf: Leaf): Bounds<readonly Clause[]> {
  const holds = jsonLinePatterns(leaf).map(
    ({ pattern, text }): Clause => ({ of: 'line', alternatives: [pattern], text }),
  )
  return { holds, fails: undefined }
}

const ANY: Bounds<readonly Clause[]> = { holds: undefined, fails: undefined }

function otlpBounds(leaf: Leaf): Bounds<readonly Clause[]> {
  switch (recordFieldOf(leaf.field)) {
    case 'time':
    case 'flags':
      return ANY
    case 'level':
      return levelBounds(leaf)
    case 'body':
      return bodyBounds(leaf)
    case 'service':
      return labelBounds(leaf, ['service_name'])
    default:
      return attributeBounds(leaf)
  }
}

function levelBounds(leaf: Leaf): Bounds<readonly Clause[]> {
  const { numbers, names } = severitiesFor(leaf)
  if (numbers.length === 0) return ANY
  const pattern = quoted(numbers.join('|'))
  return {
    holds: [labels(`severity_number=~${pattern}`, `severity_text=~${quoted(`(?i)(?:${names.join('|')})`)}`)],
    fails: [labels(`severity_number!~${pattern}`)],
  }
}

function bodyBounds(leaf: Leaf): Bounds<readonly Clause[]> {
  if (leaf.kind !== 'compare') return ANY
  const text = String(leaf.value)
  const isText = leaf.comparison === '=' && typeof rankOf(leaf.field, leaf.value) === 'string'
  if (!isText && leaf.comparison !== '~') return ANY
  const pattern = isText ? literalPattern(text) : caselessPattern(text)
  return { holds: [{ of: 'line', alternatives: [pattern] }], fails: undefined }
}

function attributeBounds(leaf: Leaf): Bounds<readonly Clause[]> {
  const names = attributesOf(leaf.field).map(labelName)
  const known = names.filter((name) => name !== undefined)
  if (known.length < names.length || mayBeObject(leaf.field)) return ANY
  const { holds, fails } = labelBounds(leaf, known)
  return { holds, fails: isPlain(leaf.field) ? fails : undefined }
}

/** `a.b` may stand in another field, and `a` in another too, when a filter asks for it by that name. */
function isPlain(field: FieldPath): boolean {
  return field.length === 1 && /^[a-z]\w*$/i.test(field[0]) && !isInObject(field)
}

// What Loki has as labels is put into no other object, so that all else is a text.
function mayBeObject(field: FieldPath): boolean {
  return OBJECTS_OF_LABELS.has(field.join('.'))
}

/** See `attributeOfLabel`. */
const OBJECTS_OF_LABELS: ReadonlySet<string> = new Set([
  LOG_FIELD.error,
  LOG_FIELD.idempotency,
  `${LOG_FIELD.idempotency}.origin`,
])

/** The attribute that Loki wrote `_` for each `.` of: what our own lines and OTel's exceptions have is known. */
export function attributeOfLabel(label: string): string {
  const [, object = '', part = ''] = LABEL_IN_OBJECT.exec(label) ?? []
  if (object === '') return label
  const isOrigin = object === LOG_FIELD.idempotency && part.startsWith('origin_')
  return `${object}.${isOrigin ? part.replace('_', '.') : part}`
}

const LABEL_IN_OBJECT = new RegExp(`^(${LOG_FIELD.error}|exception|${LOG_FIELD.idempotency})_(.+)$`)

function labelBounds(leaf: Leaf, names: readonly string[]): Bounds<readonly Clause[]> {
  const isThere = labels(...names.map((name) => `${name}!=""`))
  if (leaf.kind === 'exists')
    return { holds: [isThere], fails: [labels(...names.map((name) => `${name}=""`))] }
  const { field, comparison, value } = leaf
  const each = (condition: (name: string) => string) => labels(...names.map(condition))
  if (comparison === '=' && isMereText(field, value)) {
    const text = quoted(String(value))
    return { holds: [each((name) => `${name}=${text}`)], fails: [each((name) => `${name}!=${text}`)] }
  }
  if (comparison === '~' && String(value) !== '') {
    const pattern = quoted(`(?s).*(?:${caselessPattern(String(value))}).*`)
    return { holds: [each((name) => `${name}=~${pattern}`)], fails: undefined }
  }
  const bound = rankOf(field, value)
  if (typeof bound === 'number' && NUMERIC.has(comparison) && isShort(bound))
    return { holds: [each((name) => `${name}${comparison}${bound}`)], fails: undefined }
  return { holds: [isThere], fails: undefined }
}

/** Loki passes what it cannot read as a number. */
const NUMERIC = new Set(['=', '<', '<=', '>', '>='])

/** LogQL reads a number as JavaScript writes it, but for exponents. */
function isShort(number: number): boolean {
  return /^-?\d+(?:\.\d+)?$/.test(String(number))
}

function isMereText(field: FieldPath, value: Literal): boolean {
  return value !== null && value !== '' && typeof rankOf(field, value) !== 'number'
}

function labels(...alternatives: string[]): Clause {
  return { of: 'labels', alternatives }
}

/**
 * The label that Loki makes of an attribute (https://grafana.com/docs/loki/latest/send-data/otel/); undefined where
 * that is less plain, where the label is made of another part of a record, or where its name is a word of LogQL.
 */
function labelName(attribute: string): string | undefined {
  if (!/^[a-z][a-z0-9]*(?:[._][a-z0-9]+)*$/i.test(attribute)) return undefined
  const name = attribute.replaceAll('.', '_')
  return OTHER_LABELS.has(name) || LOGQL_WORDS.has(name.toLowerCase()) ? undefined : name
}

/** Labels that are no attributes. */
export const OTHER_LABELS: ReadonlySet<string> = new Set([
  'detected_level',
  'flags',
  'observed_timestamp',
  'service_name',
  'severity_number',
  'severity_text',
])

/** https://grafana.com/docs/loki/latest/query/ */
const LOGQL_WORDS = new Set(
  `absent_over_time and approx_topk avg avg_over_time bool bottomk by bytes bytes_over_time bytes_rate count
  count_over_time decolorize drop duration duration_seconds first_over_time group_left group_right ignoring ip json
  keep label_format label_replace last_over_time line_format logfmt max max_over_time min min_over_time of offset on or
  pattern quantile_over_time rate rate_counter regexp sort sort_desc stddev stddev_over_time stdvar stdvar_over_time
  sum sum_over_time topk unless unpack unwrap variants vector without`.split(/\s+/),
)

/** A text of LogQL, which is one of Go (https://go.dev/ref/spec#String_literals), in printable ASCII alone. */
export function quoted(text: string): string {
  return `"${[...text].map(quotedCharacter).join('')}"`
}

function quotedCharacter(character: string): string {
  if (character === '"' || character === '\\') return `\\${character}`
  if (/^[ -~]$/.test(character)) return character
  // Half a surrogate pair is no character.
  const code = /^\p{Cs}$/u.test(character) ? 0xfffd : (character.codePointAt(0) ?? 0)
  return `\\U${code.toString(16).padStart(8, '0')}`
}
