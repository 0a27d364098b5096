/** The fields that a filter asks for, and what was meant by one that no line has. */
import type { FieldPath, Filter } from './ast.js'
import type { LogEntry } from './match.js'

/** Each once, in the order of the filter. */
export function fieldsOf(filter: Filter): FieldPath[] {
  const fields = new Map<string, FieldPath>()
  const visit = (part: Filter): void => {
    switch (part.kind) {
      case 'and':
      case 'or':
        visit(part.left)
        visit(part.right)
        break
      case 'not':
        visit(part.of)
        break
      default:
        fields.set(part.field.join('.'), part.field)
    }
  }
  visit(filter)
  return [...fields.values()]
}

/** The most names that are remembered: lines may have any. */
const MAX_NAMES = 2_000

/** Adds the names of a line's fields: of nested ones with dots, one level deep. */
export function noteFields(names: Set<string>, entry: LogEntry): void {
  if (names.size >= MAX_NAMES) return
  for (const [name, value] of Object.entries(entry)) {
    names.add(name)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) continue
    for (const inner of Object.keys(value)) names.add(`${name}.${inner}`)
  }
}

/** The name that is most like it, if one is like it: a third of its letters may be others. */
export function nearestName(name: string, names: Iterable<string>): string | undefined {
  let nearest: { name: string; edits: number } | undefined
  for (const candidate of names) {
    const edits = editsBetween(name.toLowerCase(), candidate.toLowerCase())
    if (edits <= Math.max(1, name.length / 3) && edits < (nearest?.edits ?? Number.POSITIVE_INFINITY))
      nearest = { name: candidate, edits }
  }
  return nearest?.name
}

/** Letters to add, drop or change (https://en.wikipedia.org/wiki/Levenshtein_distance). */
function editsBetween(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1]
    for (const [column, other] of [...to].entries())
      next.push(
        Math.min(
          (row[column] ?? 0) + (letter === other ? 0 : 1),
          (row[column + 1] ?? 0) + 1,
          (next[column] ?? 0) + 1,
        ),
      )
    row = next
  }
  return row.at(-1) ?? 0
}
