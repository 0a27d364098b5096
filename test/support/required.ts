/**
 * What a test does when a real server or browser is missing: it says aloud how to install it and is skipped,
 * unless `THROUGHLINE_REQUIRE` (comma-separated names, or `all`; set in CI) asks for it: then it fails.
 */

/** A part that a test needs and a machine may lack. */
export type RequiredPart =
  | 'jaeger'
  | 'jq'
  | 'redis'
  | 'postgres'
  | 'mariadb'
  | 'chromium'
  | 'tmpfs'
  | 'clickhouse'
  | 'loki'

/** Too long in the making to be had everywhere: `all` does not ask for them. */
const BY_NAME_ALONE: readonly RequiredPart[] = ['jaeger', 'loki']

/**
 * Call it when `name` was not found; skip the tests that need it when it returns.
 *
 * @param install the command that installs it
 * @throws {Error} when `THROUGHLINE_REQUIRE` names the part.
 * @example if (binary === undefined) { requireOrSkip('redis', 'apt-get install redis-server'); return undefined }
 */
export function requireOrSkip(name: RequiredPart, install: string): void {
  const required = (process.env.THROUGHLINE_REQUIRE ?? '').split(',').map((part) => part.trim())
  if (required.includes(name) || (required.includes('all') && !BY_NAME_ALONE.includes(name))) {
    throw new Error(`THROUGHLINE_REQUIRE asks for ${name}, which is missing. Install it: ${install}`)
  }
  process.stderr.write(`\nSKIPPED: tests that need ${name}, which is missing. Install it: ${install}\n\n`)
}
