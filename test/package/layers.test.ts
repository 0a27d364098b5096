/** Who may import whom: the table of DESIGN, "Parts, and who may import whom". Types count as imports. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

/** For each part, the parts of this package that it may import, beside itself. A new part needs a row. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  'src/errors.ts': [],
  'src/context': ['src/errors.ts', 'src/telemetry/names.ts'],
  'src/telemetry': ['src/errors.ts', 'src/context'],
  'src/logging': ['src/errors.ts', 'src/context', 'src/telemetry/names.ts'],
  'src/postgres': ['src/errors.ts', 'src/context', 'src/telemetry', 'src/logging'],
  'src/clients': ['src/errors.ts', 'src/context', 'src/telemetry', 'src/logging'],
  'src/idempotency': ['src/errors.ts', 'src/context', 'src/telemetry', 'src/logging', 'src/postgres'],
  'src/outbox': ['src/errors.ts', 'src/context', 'src/telemetry', 'src/logging', 'src/postgres'],
  'src/next': upTo3(),
  'src/react': upTo3(),
  'src/browser': upTo3(),
  'src/query': ['src/errors.ts', 'src/telemetry/names.ts', 'src/telemetry/local-directory.ts'],
  'src/cli': [...upTo3(), 'src/query'],
  // The package's own entry: the context and the errors.
  'src/index.ts': ['src/errors.ts', 'src/context'],
  instrumentation: upTo3(),
}

/** Packages that only some parts know. */
const PACKAGE_RULES: { packages: RegExp; parts: readonly string[]; rule: string }[] = [
  {
    packages: /^@opentelemetry\/(?:sdk-.+|auto-.+|exporter-.+)$|^@vercel\/otel$/,
    parts: ['instrumentation'],
    rule: 'only instrumentation/ imports an OpenTelemetry SDK',
  },
  {
    packages: /^(?:next|react|react-dom)$/,
    parts: ['src/next', 'src/react', 'src/browser'],
    rule: 'only next/, react/ and browser/ know Next and React',
  },
  {
    packages: /^(?!@opentelemetry\/api$)/,
    parts: Object.keys(MAY_IMPORT).filter((part) => part !== 'src/telemetry' && part !== 'src/errors.ts'),
    rule: 'telemetry/ knows @opentelemetry/api alone, and errors.ts no package',
  },
]

/** Folders of files that stand side by side, one per store or client library, and what these share there. */
const SIDE_BY_SIDE: Record<string, readonly string[]> = {
  'src/idempotency/stores': [
    'redis-client.ts',
    'redis-scripts.ts',
    'script-store.ts',
    'postgres-migrations.ts',
    'postgres-records.ts',
    'postgres-sql.ts',
  ],
  'src/clients/database': [
    'application-name.ts',
    'bind-context.ts',
    'sql-comment.ts',
    'sql-text.ts',
    'statement-span.ts',
    'wrap-method.ts',
  ],
  'src/clients/kv': [
    'command-channel.ts',
    'command-span.ts',
    'command-wrap.ts',
    'recipe.ts',
    'races.ts',
    'seen-keys.ts',
    'key-patterns.ts',
  ],
  'src/clients/http': [],
}

interface Import {
  /** Path from the repository. */
  file: string
  /** As it is written. */
  specifier: string
}

describe('the parts of this package', () => {
  const files = ['src', 'instrumentation'].flatMap(sourcesBelow)
  const imports = files.flatMap((file) => importsOf(file, readFileSync(join(REPOSITORY, file), 'utf8')))

  it('import upward only, and only what their row of the table lists', () => {
    expect(imports.flatMap(breaches)).toEqual([])
  })

  it('are all in the table', () => {
    const parts = new Set(files.map((file) => partOf(file)))
    expect([...parts].filter((part) => !(part in MAY_IMPORT))).toEqual([])
  })

  it('import files that exist: a path that is read wrongly would pass every rule', () => {
    const missing = imports
      .map(({ file, specifier }) => targetOf({ file, specifier }))
      .filter(
        (target) => target !== undefined && ![target, `${target}x`].some((file) => files.includes(file)),
      )
    expect(missing).toEqual([])
  })

  it('are read completely: types, re-exports, imports over several lines, and dynamic ones', () => {
    const found = imports.map(({ file, specifier }) => `${file} ${specifier}`)
    expect(found).toContain('src/context/request-context.ts @opentelemetry/api')
    expect(found).toContain('src/index.ts ./context/index.js')
    expect(found).toContain('instrumentation/http-server.ts ../src/context/index.js')
    expect(found).toContain('instrumentation/index.ts ./node.js')
    expect(found).toContain('src/next/ensure-context.ts next/headers.js')
    expect(new Set(imports.map(({ file }) => file)).size).toBeGreaterThan(files.length / 2)
  })
})

describe('the rules', () => {
  it.each([
    ['src/errors.ts', './context/index.js', 'src/errors.ts may import none'],
    ['src/errors.ts', 'pino', 'no package'],
    ['src/context/clock.ts', '../telemetry/meter.js', 'src/context may import src/errors.ts'],
    ['src/logging/logger.ts', '../telemetry/meter.js', 'src/telemetry/names.ts'],
    ['src/telemetry/meter.ts', '../logging/index.js', 'src/telemetry may import'],
    ['src/telemetry/meter.ts', 'pino', '@opentelemetry/api alone'],
    ['src/idempotency/run.ts', '../clients/kv/recipe.js', 'src/idempotency may import'],
    ['src/idempotency/run.ts', '../next/action.js', 'src/idempotency may import'],
    ['src/idempotency/run.ts', 'next/headers.js', 'know Next and React'],
    ['src/clients/http/undici.ts', 'react', 'know Next and React'],
    ['src/next/action.ts', '../../instrumentation/node.js', 'src/next may import'],
    ['src/next/action.ts', '../react/form.js', 'src/next may import'],
    ['src/query/traces/find-trace.ts', '../../context/index.js', 'src/query may import'],
    ['src/query/traces/find-trace.ts', '../../telemetry/meter.js', 'src/query may import'],
    ['src/cli/main.ts', '../next/index.js', 'src/cli may import'],
    ['src/cli/main.ts', '../../instrumentation/local-files/index.js', 'src/cli may import'],
    ['instrumentation/node.ts', '../src/next/index.js', 'instrumentation may import'],
    ['src/telemetry/sdk-pieces.ts', '@opentelemetry/sdk-trace-base', 'imports an OpenTelemetry SDK'],
    ['src/next/index.ts', '@vercel/otel', 'imports an OpenTelemetry SDK'],
    ['src/idempotency/stores/redis.ts', './memory.js', 'stand side by side'],
    ['src/clients/kv/ioredis.ts', './node-redis.js', 'stand side by side'],
    ['src/clients/kv/ioredis.ts', '../database/sql-comment.js', 'stand side by side'],
    ['src/clients/database/pg.ts', './pglite.js', 'stand side by side'],
    ['src/new/index.ts', '../errors.js', 'src/new has no row'],
  ])('refuse that %s imports %s', (file, specifier, reason) => {
    const found = breaches({ file, specifier })
    expect(found.join('\n')).toContain(`${file} imports ${specifier}`)
    expect(found.join('\n')).toContain(reason)
  })

  it.each([
    ['src/context/index.ts', './clock.js'],
    ['src/context/request-context.ts', '../errors.js'],
    ['src/context/request-context.ts', 'node:async_hooks'],
    ['src/telemetry/meter.ts', '@opentelemetry/api'],
    ['src/logging/logger.ts', '../telemetry/names.js'],
    ['src/query/traces/find-trace.ts', '../../telemetry/names.js'],
    ['src/idempotency/stores/redis.ts', './redis-client.js'],
    ['src/idempotency/stores/redis.ts', '../token.js'],
    ['src/clients/kv/ioredis.ts', './command-channel.js'],
    ['src/next/with-correlation.ts', 'next/server.js'],
    ['instrumentation/sdk.ts', '@opentelemetry/sdk-node'],
    ['instrumentation/local-files/log-file.ts', '../../src/telemetry/local-directory.js'],
  ])('allow that %s imports %s', (file, specifier) => {
    expect(breaches({ file, specifier })).toEqual([])
  })

  it('see through comments and strings', () => {
    const source = `
      /** @example import { a } from 'in-a-comment' */
      // import 'in-a-line-comment'
      import 'bare'
      import type { A } from "type"
      import {
        b,
      } from 'several-lines'
      export * from 're-export'
      const c = await import(/* webpackIgnore: true */ 'dynamic')
      let d: typeof import('type-of')
      const e = "from 'a-string'"
    `
    expect(
      importsOf('a.ts', source)
        .map(({ specifier }) => specifier)
        .sort(),
    ).toEqual(['bare', 'dynamic', 're-export', 'several-lines', 'type', 'type-of'].sort())
  })
})

/** Each rule that the import breaks, as a sentence. */
function breaches(imported: Import): string[] {
  const { file, specifier } = imported
  const part = partOf(file)
  const allowed = MAY_IMPORT[part]
  const says = (rule: string) => `${file} imports ${specifier}: ${rule}.`
  if (allowed === undefined) return [says(`${part} has no row in the table of this test`)]
  const target = targetOf(imported)
  if (target === undefined) {
    if (specifier.startsWith('node:')) return []
    const name = packageOf(specifier)
    return PACKAGE_RULES.filter(({ packages, parts }) => packages.test(name) && !parts.includes(part)).map(
      ({ rule }) => says(rule),
    )
  }
  const found: string[] = []
  if (partOf(target) !== part && !allowed.includes(partOf(target)) && !allowed.includes(target)) {
    found.push(says(`${part} may import ${allowed.join(', ') || 'none'}`))
  }
  if (!mayStandBeside(file, target)) {
    found.push(says('stores and clients stand side by side, and import only what their folder shares'))
  }
  return found
}

// A file's own pieces bear its name: redis.ts and redis-client.ts.
function mayStandBeside(file: string, target: string): boolean {
  const folder = posix.dirname(file)
  const targetFolder = posix.dirname(target)
  if (!(folder in SIDE_BY_SIDE) || !(targetFolder in SIDE_BY_SIDE)) return true
  const name = posix.basename(target)
  const isOwnPiece = name.startsWith(`${posix.basename(file, '.ts')}-`)
  return folder === targetFolder && (isOwnPiece || (SIDE_BY_SIDE[folder] ?? []).includes(name))
}

/** `src/<folder>`, a file right in `src`, or `instrumentation`. */
function partOf(file: string): string {
  const [top = '', second = ''] = file.split('/')
  return top === 'src' ? `src/${second}` : top
}

/** The file that a relative import names, else undefined. */
function targetOf({ file, specifier }: Import): string | undefined {
  if (!specifier.startsWith('.')) return undefined
  return posix.join(posix.dirname(file), specifier).replace(/\.js$/, '.ts')
}

function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
}

const IMPORTS = [
  /^[ \t]*(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])([^'"]+)\1/gm,
  /^[ \t]*import\s*(['"])([^'"]+)\1/gm,
  /\bimport\(\s*(?:\/\*.*?\*\/\s*)?(['"])([^'"]+)\1/g,
]

function importsOf(file: string, source: string): Import[] {
  // Only comments that begin a line: elsewhere the marks may be part of a string or a RegExp.
  const code = source.replace(/^[ \t]*(?:\/\*[\s\S]*?\*\/|\/\/.*$)/gm, '')
  return IMPORTS.flatMap((pattern) => [...code.matchAll(pattern)]).map(([, , specifier = '']) => ({
    file,
    specifier,
  }))
}

function sourcesBelow(folder: string): string[] {
  return readdirSync(join(REPOSITORY, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => posix.join(folder, name.replaceAll('\\', '/')))
}

/** The layers 0 to 3. */
function upTo3(): string[] {
  return ['errors.ts', 'context', 'telemetry', 'logging', 'clients', 'idempotency', 'outbox'].map(
    (name) => `src/${name}`,
  )
}
