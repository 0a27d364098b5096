import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { migrationsOf } from '../../src/idempotency/stores/postgres.ts'

const folder = fileURLToPath(new URL('../../migrations', import.meta.url))

it('the SQL files for those who apply them by hand are what migrate() applies', () => {
  const files = readdirSync(folder)
    .sort()
    .map((file) => ({ name: file.replace(/\.sql$/, ''), sql: readFileSync(`${folder}/${file}`, 'utf8') }))
  expect(files).toEqual(migrationsOf())
})
