/** The fields of a log line as text: `route=/ status=500 err.message="not yet"`. */

/** One level of an object is spread, `err.message=…`: that is where loggers put what matters. */
export function fieldTexts(name: string, value: unknown): string[] {
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
