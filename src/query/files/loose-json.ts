/** Reading JSON that anyone may have written: what has another shape than expected is as if absent. */

export type JsonObject = Record<string, unknown>

/** A line as an object, or undefined when it is torn, not JSON, or another kind of value. */
export function parseObject(line: string): JsonObject | undefined {
  try {
    return asObject(JSON.parse(line))
  } catch {
    return undefined
  }
}

export function asObject(value: unknown): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined
}

/** The objects of an array; none when it is not one. */
export function objectsOf(value: unknown): JsonObject[] {
  if (!Array.isArray(value)) return []
  return value.map(asObject).filter((item) => item !== undefined)
}

/** A string that is not empty. */
export function asText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

type Defined<T> = { [K in keyof T]?: NonNullable<T[K]> }

/** Without what is undefined. */
export function definedOf<T extends object>(values: T): Defined<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Defined<T>
}
