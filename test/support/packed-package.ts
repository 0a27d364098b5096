/**
 * Packs the package once for all flow tests, and installs it in fresh apps outside the repository, so that
 * what a workspace hides (missing files, wrong exports, copies per bundle) shows.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestProject } from 'vitest/node'
import { mustRun } from './command.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Absolute path of the packed tarball. */
    tarball: string
    /** A directory of this run, removed at its end. */
    workDirectory: string
  }
}

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const workDirectory = await mkdtemp(join(tmpdir(), 'throughline-'))
  const packed = await mustRun('npm', ['pack', '--json', '--pack-destination', workDirectory], {
    cwd: REPOSITORY,
  })
  const [{ filename }] = Object.values(JSON.parse(packed.stdout)) as [{ filename: string }]
  project.provide('tarball', join(workDirectory, filename))
  project.provide('workDirectory', workDirectory)
  return () => rm(workDirectory, { recursive: true, force: true })
}

/**
 * Copies a fixture app into the run's directory and installs its packages: `throughline` from the tarball,
 * the others at the versions this repository is tested with, unless given.
 */
export async function installApp(
  fixture: string,
  {
    tarball,
    workDirectory,
    packages,
    name = fixture,
  }: {
    tarball: string
    workDirectory: string
    packages: readonly string[]
    name?: string
  },
): Promise<string> {
  const directory = join(workDirectory, name)
  await cp(join(REPOSITORY, 'test/fixtures', fixture), directory, { recursive: true })
  const { devDependencies } = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8'))
  const wanted = packages.map((wantedPackage) =>
    wantedPackage.lastIndexOf('@') > 0 ? wantedPackage : `${wantedPackage}@${devDependencies[wantedPackage]}`,
  )
  await writeFile(join(directory, '.npmrc'), 'audit=false\nfund=false\n')
  await mustRun('npm', ['install', '--prefer-offline', '--no-package-lock', tarball, ...wanted], {
    cwd: directory,
  })
  return directory
}
