/** What texts are ordered by, where they are no mere texts. The same rules are written in SQL in `compile-duckdb.ts`. */
import { type FieldPath, LEVEL_FIELD, LEVELS, TIME_FIELD } from './ast.js'

/** A decimal number and nothing else, but for space around it. RE2 and JavaScript read it alike. */
export const NUMBER_TEXT = '[ \\t\\r\\n]*[+-]?(?:[0-9]+\\.?[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \\t\\r\\n]*'

/** ISO 8601, from the day on; without a zone it is UTC. */
export const TIME_TEXT =
  '[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?'

const NUMBER = new RegExp(`^${NUMBER_TEXT}$`)
const TIME = new RegExp(`^${TIME_TEXT}$`)
const ZONE = /(?:Z|[+-]\d{2}:\d{2})$/

/** Levels by pino's numbers, moments by epoch milliseconds, texts that are numbers as these; any other text as it is. */
export function rankOf(field: FieldPath, value: unknown): number | string | undefined {
  if (typeof value === 'number') return value
  if (typeof value !== 'string') return undefined
  return numberOf(field, value) ?? value
}

function numberOf(field: FieldPath, text: string): number | undefined {
  if (isField(field, LEVEL_FIELD)) {
    const level = text.toLowerCase()
    if (Object.hasOwn(LEVELS, level)) return LEVELS[level]
  }
  if (isField(field, TIME_FIELD) && TIME.test(text)) {
    const iso = text.length === 10 ? text : text.replace(' ', 'T') + (ZONE.test(text) ? '' : 'Z')
    const ms = isDay(iso.slice(0, 10)) ? Date.parse(iso) : Number.NaN
    if (Number.isFinite(ms)) return ms
  }
  if (!NUMBER.test(text)) return undefined
  const number = Number(text)
  return Number.isFinite(number) ? number : undefined
}

/** Date.parse takes the 30th of February for the 2nd of March. */
function isDay(text: string): boolean {
  if (Number(text.slice(8)) <= 28) return true
  const ms = Date.parse(text)
  return Number.isFinite(ms) && new Date(ms).toISOString().startsWith(text)
}

export function isField(field: FieldPath, name: string): boolean {
  return field.length === 1 && field[0] === name
}
