/** Lines in a file of their own, for readers that read nothing else. */

import { createWriteStream, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { FoundLine } from '../logs/log-line.js'

export interface StagedLines {
  file: string
  remove(): void
}

/** Below the system's folder for temporary files, readable by this user alone. */
export async function stageLines(lines: AsyncIterable<FoundLine>): Promise<StagedLines> {
  const folder = mkdtempSync(join(tmpdir(), 'throughline-lines-'))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  const file = join(folder, 'lines.ndjson')
  try {
    await pipeline(Readable.from(textsOf(lines)), createWriteStream(file, { mode: 0o600 }))
    return { file, remove }
  } catch (error) {
    remove()
    throw error
  }
}

async function* textsOf(lines: AsyncIterable<FoundLine>): AsyncGenerator<string> {
  for await (const { text } of lines) yield `${text.trim()}\n`
}
