/** Lines as they are written, whatever becomes of the files. */
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { filterOf } from '../../src/cli/logs/log-filter.ts'
import { followLogs } from '../../src/query/logs/follow-logs.ts'
import { eventually } from '../support/eventually.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'throughline-follow-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const line = (n: number, level = 30) => `${JSON.stringify({ level, n })}\n`

/** Numbers of the lines that came, while `write` writes them. */
async function followed(
  paths: string[],
  filter: string | undefined,
  write: (came: readonly number[]) => Promise<void>,
): Promise<number[]> {
  const stop = new AbortController()
  const tally = { files: 0, unreadableLines: 0 }
  const { lines } = await followLogs({
    ...{ paths, tally, signal: stop.signal, everyMs: 5 },
    filter: filterOf(filter, {}),
  })
  const came: number[] = []
  const reading = (async () => {
    for await (const { entry } of lines) came.push(Number(entry.n))
  })()
  await write(came)
  stop.abort()
  await reading
  return came
}

describe('what is followed', () => {
  it('begins after what is there, and is found by the filter', async () => {
    const file = join(folder, 'app.log')
    writeFileSync(file, line(0, 50) + line(1, 50))
    const came = await followed([file], 'level >= error', async (read) => {
      appendFileSync(file, line(2, 50) + line(3) + line(4, 50))
      await eventually(() => expect(read).toHaveLength(2))
    })
    expect(came).toEqual([2, 4])
  })

  it('waits for the end of a line that is being written', async () => {
    const file = join(folder, 'app.log')
    writeFileSync(file, line(0) + line(1).slice(0, 8))
    const came = await followed([file], undefined, async (read) => {
      appendFileSync(file, line(1).slice(8) + line(2).slice(0, 3))
      await eventually(() => expect(read).toEqual([1]))
      appendFileSync(file, line(2).slice(3))
      await eventually(() => expect(read).toEqual([1, 2]))
    })
    expect(came).toEqual([1, 2])
  })

  it.each(['file', 'folder', 'pattern'])(
    'goes on across rotation by renaming, named as a %s',
    async (named) => {
      const file = join(folder, 'app.log')
      const path = { file, folder, pattern: join(folder, '*.log*') }[named] ?? file
      writeFileSync(file, line(0))
      const came = await followed([path], undefined, async (read) => {
        for (let rotation = 1; rotation <= 3; rotation += 1) {
          appendFileSync(file, line(rotation * 10))
          renameSync(file, `${file}.${rotation}`)
          // The writer has it still open.
          appendFileSync(`${file}.${rotation}`, line(rotation * 10 + 1))
          writeFileSync(file, line(rotation * 10 + 2))
          await eventually(() => expect(read).toHaveLength(rotation * 3))
        }
      })
      expect(came.sort((a, b) => a - b)).toEqual([10, 11, 12, 20, 21, 22, 30, 31, 32])
    },
  )

  it('begins again where a file was copied and cut', async () => {
    const file = join(folder, 'app.log')
    writeFileSync(file, line(0) + line(1))
    const came = await followed([file], undefined, async (read) => {
      appendFileSync(file, line(2))
      await eventually(() => expect(read).toEqual([2]))
      copyFileSync(file, `${file}.1`)
      truncateSync(file)
      appendFileSync(file, line(3))
      await eventually(() => expect(read).toEqual([2, 3]))
    })
    expect(came).toEqual([2, 3])
  })

  it('has files that are made later, also in a folder that is not there yet', async () => {
    const later = join(folder, 'later')
    const came = await followed([later], undefined, async (read) => {
      mkdirSync(later)
      writeFileSync(join(later, '1.ndjson'), line(1))
      await eventually(() => expect(read).toEqual([1]))
      writeFileSync(join(later, '2.ndjson'), line(2))
      writeFileSync(join(later, '1.ndjson.gz'), 'packed')
      await eventually(() => expect(read).toEqual([1, 2]))
    })
    expect(came).toEqual([1, 2])
  })

  it('is read to its end though there are more files than are kept open', async () => {
    for (let n = 0; n < 100; n += 1) writeFileSync(join(folder, `${n}.log`), line(-1))
    const came = await followed([folder], undefined, async (read) => {
      for (let n = 0; n < 100; n += 1) appendFileSync(join(folder, `${n}.log`), line(n))
      await eventually(() => expect(read).toHaveLength(100))
    })
    expect(came.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, n) => n))
  })
})
