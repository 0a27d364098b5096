/** Generates the Prisma client of `fixtures/prisma` as its users do, without the network. */
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { mustRun } from './command.ts'
import { REPOSITORY } from './packed-package.ts'

/** Generates into `<directory>/generated`, and returns the path of its entry. */
export async function generatePrismaClient(directory: string): Promise<string> {
  await mkdir(directory, { recursive: true })
  await copyFile(join(REPOSITORY, 'test/fixtures/prisma/schema.prisma'), join(directory, 'schema.prisma'))
  const program = join(REPOSITORY, 'node_modules/prisma/build/index.js')
  await mustRun(process.execPath, [program, 'generate', '--schema', 'schema.prisma'], {
    cwd: directory,
    // Generating needs no schema engine, but would fetch it.
    env: { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: '/bin/true', CHECKPOINT_DISABLE: '1' },
  })
  return join(directory, 'generated/client.ts')
}
