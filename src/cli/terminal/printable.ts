/**
 * Text that strangers influence (span names, log messages, attributes), made safe to print and measured.
 *
 * An escape sequence in a log line can retitle a terminal, hide other lines, or on some terminals type for
 * the user; a bidi control shows text in another order than it is. All are shown as escapes instead.
 */

// C0 and C1 controls (0x9b alone begins a sequence in 8-bit mode), bidi and other invisible format
// characters, line separators, tags, lone surrogates. The joiner of emoji (200d) is harmless and stays.
const UNSAFE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?!\u200d)\p{Cf}/gu

/**
 * The text on one line, without anything that a terminal obeys. Line ends and tabs, with what
 * indents the next line, become a space, other controls their escape: `\x1b`, `\u{202e}`.
 */
export function printable(text: string): string {
  return text.replace(/ *[\t\n\v\f\r][\t\n\v\f\r ]*/g, ' ').replace(UNSAFE, escapeOf)
}

/** The same for JSON text: escapes that JSON itself has, so that it parses to the same value. */
export function printableJson(json: string): string {
  return json.replace(UNSAFE, (character) =>
    character === '\n' ? character : character.split('').map(jsonEscapeOf).join(''),
  )
}

/** A document for programs, indented, with a line end at its end. */
export function printableDocument(document: unknown): string {
  return `${printableJson(JSON.stringify(document, null, 2))}\n`
}

function escapeOf(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
}

function jsonEscapeOf(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}

// Made when it is needed: it takes longer than the rest of this command's start.
let segmenter: Intl.Segmenter | undefined

function graphemesOf(text: string): Intl.Segments {
  segmenter ??= new Intl.Segmenter('en', { granularity: 'grapheme' })
  return segmenter.segment(text)
}

// Hangul, kana, CJK, full-width forms, and what is drawn as emoji: two cells (Unicode TR 11, roughly).
const WIDE =
  /^[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\ufe0f/u

/** Cells that printable text takes in a terminal. */
export function textWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let width = 0
  for (const { segment } of graphemesOf(text)) width += graphemeWidth(segment)
  return width
}

/** As much of the beginning of printable text as fits. */
export function startOfWidth(text: string, maxWidth: number): string {
  let width = 0
  for (const { segment, index } of graphemesOf(text)) {
    width += graphemeWidth(segment)
    if (width > maxWidth) return text.slice(0, index)
  }
  return text
}

function graphemeWidth(grapheme: string): number {
  if (/^\p{M}+$/u.test(grapheme)) return 0
  return WIDE.test(grapheme) ? 2 : 1
}
