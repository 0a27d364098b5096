/** Which KV keys are idempotency keys: patterns with `*`, as Redis users write them. */
import { isUtf8 } from 'node:buffer'
import { clientSettings } from '../settings.js'

export type KeyTest = (key: string) => boolean

/** The test for these patterns, else for those that `throughline({ … })` has set when a key comes by. */
export function keyTestOf(patterns: readonly string[] | undefined): KeyTest {
  return patterns === undefined ? isKeyOfSettings : compileKeyPatterns(patterns)
}

let compiled: { patterns: readonly string[]; test: KeyTest } | undefined

function isKeyOfSettings(key: string): boolean {
  const patterns = clientSettings().idempotencyKeys
  if (compiled?.patterns !== patterns) compiled = { patterns, test: compileKeyPatterns(patterns) }
  return compiled.test(key)
}

/** Compiles patterns, in which `*` stands for any characters, to one test. */
export function compileKeyPatterns(patterns: readonly string[]): KeyTest {
  if (patterns.length === 0) return () => false
  const alternatives = patterns.map((pattern) => pattern.split('*').map(escapeForRegExp).join('.*'))
  const expression = new RegExp(`^(?:${alternatives.join('|')})$`, 's')
  return (key) => expression.test(key)
}

function escapeForRegExp(text: string): string {
  return text.replace(/[.+?^${}()|[\]\\]/g, '\\$&')
}

/** A key as text, or undefined for what is no key. It may be any bytes: those that are no text are told apart as they are. */
export function keyText(key: unknown): string | undefined {
  if (typeof key === 'string') return key
  if (!Buffer.isBuffer(key)) return undefined
  return key.toString(isUtf8(key) ? 'utf8' : 'latin1')
}
