/** Texts as regular expressions of RE2, which ClickHouse and Loki have (https://github.com/google/re2/wiki/Syntax). */

/** Matches the text alone. A half of a surrogate pair, which UTF-8 cannot say, matches any character. */
export function literalPattern(text: string): string {
  return [...text].map(characterPattern).join('')
}

/**
 * Matches wherever the text stands within another, whatever the case of either: all that JavaScript's
 * `toLowerCase` makes alike, and some that it does not.
 *
 * @param patternOf how a character is written where it is searched for. Default: as itself
 */
export function caselessPattern(text: string, patternOf = characterPattern): string {
  const characters = [...text.toLowerCase()]
  const pattern = characters.map((character) => caselessCharacter(character, patternOf)).join('')
  return `(?i)${pattern}${characters.some((character) => /[ik]/.test(character)) ? ODD_CAPITALS : ''}`
}

// What becomes an ASCII letter in lower case and is none: the Turkish İ, two characters then, and the sign of Kelvin.
// Whatever has one is let through: within the pattern, they would keep it from being searched for as mere text.
const ODD_CAPITALS = '|\u0130|\u212a|\\\\u0130|\\\\u212[aA]'

const DOT_ABOVE = '\u0307'

function caselessCharacter(character: string, patternOf: (character: string) => string): string {
  if (character.charCodeAt(0) < 0x80) return patternOf(character)
  const forms = new Set([character, character.toUpperCase(), character.toLowerCase()])
  const patterns = [...forms].filter((form) => [...form].length === 1).map(patternOf)
  // The second half of an İ in lower case.
  return `(?:${patterns.join('|')})${character === DOT_ABOVE ? '?' : ''}`
}

export function characterPattern(character: string): string {
  if (/^[\ud800-\udfff]$/.test(character)) return '.'
  return /^[\\.+*?()|[\]{}^$]$/.test(character) ? `\\${character}` : character
}
