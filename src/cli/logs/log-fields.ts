/** The fields of a log line as text: `route=/ status=500 err.message="not yet"`. */

import { LOG_FIELD } from '../../telemetry/names.js'

/** Fields that say what every line says, or what its place says. */
const UNSHOWN_FIELDS = new Set<string>(['pid', 'hostname', LOG_FIELD.traceFlags])

/** All that are worth showing. */
export function shownFields(fields: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(fields)
    .filter(([name]) => !UNSHOWN_FIELDS.has(name))
    .flatMap(([name, value]) => fieldTexts(name, value))
}

/** One level of an object is spread, `err.message=…`: that is where loggers put what matters. */
function fieldTexts(name: string, value: unknown): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return [`${name}=${valueText(value)}`]
  return Object.entries(value)
    .filter(([inner]) => inner !== 'stack')
    .map(([inner, innerValue]) => `${name}.${inner}=${valueText(innerValue)}`)
}

export function valueText(value: unknown): string {
  if (typeof value === 'string') return /[\s"=]/.test(value) ? JSON.stringify(value) : value
  return JSON.stringify(value) ?? String(value)
}
