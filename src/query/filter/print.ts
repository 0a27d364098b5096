/** A filter as its text: what it parses to again. */
import type { FieldPath, Filter, Literal } from './ast.js'
import { isKeyword } from './parse.js'

export function printFilter(filter: Filter): string {
  switch (filter.kind) {
    case 'and':
    case 'or':
      return `(${printFilter(filter.left)} ${filter.kind} ${printFilter(filter.right)})`
    case 'not':
      return `not (${printFilter(filter.of)})`
    case 'exists':
      return `exists(${printField(filter.field)})`
    case 'compare':
      return `${printField(filter.field)} ${filter.comparison} ${printLiteral(filter.value)}`
    case 'in':
      return `${printField(filter.field)} in (${filter.values.map(printLiteral).join(', ')})`
  }
}

export function printField(path: FieldPath): string {
  return path.map((name) => (isPlain(name) ? name : `\`${name.replaceAll('`', '``')}\``)).join('.')
}

function printLiteral(value: Literal): string {
  return typeof value === 'string' ? `'${value.replaceAll("'", "''")}'` : String(value)
}

function isPlain(name: string): boolean {
  return /^[A-Za-z_]\w*$/.test(name) && !isKeyword(name) && name !== 'exists'
}
