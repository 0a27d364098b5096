/** The files that are asked: as they were written, and compacted. */
import { linkSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { BenchOptions } from '../benchmark.ts'
import { progress } from '../benchmark.ts'
import { type Measured, measure } from './measure.ts'
import { makeLnavHome, throughline } from './programs.ts'
import { type LogFile, Traffic, writeLogFile } from './traffic.ts'

export interface Corpus {
  log: LogFile
  /** A folder: the same lines, compacted. */
  compacted: string
  /** A folder: those and other files as long, compacted; undefined when there is one file. */
  manyCompacted: string | undefined
  lnavHome: string
  /** What compacting took, once each. */
  compacting: Record<string, Measured>
}

const SEED = 20_260_115

export async function makeCorpus(
  folder: string,
  { lines, files }: Pick<BenchOptions, 'lines' | 'files'>,
): Promise<Corpus> {
  const [compacted, many] = [join(folder, 'compacted'), join(folder, 'many')]
  for (const made of [compacted, many]) mkdirSync(made)
  const traffic = new Traffic(SEED)
  progress(`writing ${lines} lines`)
  const log = await writeLogFile(join(folder, 'app.ndjson'), lines, traffic)
  // A link, for compacting removes what it has read.
  for (const made of [compacted, many]) linkSync(log.path, join(made, 'app.ndjson'))
  const compacting = { 'throughline, one file': await compact(compacted, folder) }
  const corpus = { log, compacted, lnavHome: makeLnavHome(join(folder, 'lnav')) }
  if (files === 1) return { ...corpus, manyCompacted: undefined, compacting }
  progress(`writing ${files - 1} times as many`)
  for (let file = 1; file < files; file += 1)
    await writeLogFile(join(many, `app.${file}.ndjson`), lines, traffic)
  return {
    ...corpus,
    manyCompacted: many,
    compacting: { ...compacting, [`throughline, ${files} files`]: await compact(many, folder) },
  }
}

async function compact(logs: string, folder: string): Promise<Measured> {
  const measured = await measure(throughline('compact', logs), folder)
  progress(`compacted: ${measured.ms.toFixed(0)} ms`)
  return measured
}
