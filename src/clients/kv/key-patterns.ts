/** Which KV keys are idempotency keys: patterns with `*`, as Redis users write them. */

/** Compiles patterns, in which `*` stands for any characters, to one test. */
export function compileKeyPatterns(patterns: readonly string[]): (key: string) => boolean {
  if (patterns.length === 0) return () => false
  const alternatives = patterns.map((pattern) => pattern.split('*').map(escapeForRegExp).join('.*'))
  const expression = new RegExp(`^(?:${alternatives.join('|')})$`, 's')
  return (key) => expression.test(key)
}

function escapeForRegExp(text: string): string {
  return text.replace(/[.+?^${}()|[\]\\]/g, '\\$&')
}
