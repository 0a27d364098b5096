import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  createLogFile,
  RotatingFile,
  type RotatingFileOptions,
} from '../../instrumentation/local-files/index.ts'

const START_MS = Date.UTC(2026, 10, 24, 4, 15, 0)

let directory: string
let nowMs: number

beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), 'throughline-')), 'local')
  nowMs = START_MS
})

afterEach(() => {
  rmSync(join(directory, '..'), { recursive: true, force: true })
})

describe('a rotating file', () => {
  it('writes lines to a file whose name sorts by time and says which process wrote it', () => {
    const file = open()
    file.write('{"a":1}')
    file.write('{"a":2}\n')
    expect(files()).toEqual([`20261124T041500Z-${process.pid}-0001.ndjson`])
    expect(lines()).toEqual(['{"a":1}', '{"a":2}'])
  })

  it('has a line in the file when write returns, so that a killed process loses none', async () => {
    const script = `
      import { createLogFile } from ${JSON.stringify(builtModule)}
      const log = createLogFile(${JSON.stringify(directory)})
      for (let i = 0; i < 1000; i += 1) log.write(JSON.stringify({ i }))
      process.kill(process.pid, 'SIGKILL')`
    const run = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script])
    await expect(run).rejects.toMatchObject({ signal: 'SIGKILL' })
    expect(lines('logs')).toHaveLength(1000)
  })

  it('begins another file before one grows beyond its size', () => {
    const file = open({ maxFileBytes: 20, maxTotalBytes: 1000 })
    for (const line of ['123456789', '123456789', '123456789']) {
      file.write(line)
      nowMs += 1000
    }
    expect(files().map((name) => name.slice(0, 16))).toEqual(['20261124T041500Z', '20261124T041502Z'])
    expect(lines()).toHaveLength(3)
  })

  it('begins another file when the day, in UTC, of its first line has passed', () => {
    nowMs = Date.UTC(2026, 10, 24, 23, 59, 59, 998)
    const file = open()
    for (const line of ['one', 'two', 'three', 'four']) {
      file.write(line)
      nowMs += 1
    }
    expect(files().map((name) => name.slice(0, 16))).toEqual(['20261124T235959Z', '20261125T000000Z'])
    expect(readFolder()).toEqual(['one\ntwo\n', 'three\nfour\n'])
  })

  it('keeps a line that is longer than a whole file, alone', () => {
    const file = open({ maxFileBytes: 10, maxTotalBytes: 1000 })
    for (const line of ['a', 'b'.repeat(50), 'c']) file.write(line)
    expect(files()).toHaveLength(3)
    expect(lines()).toEqual(['a', 'b'.repeat(50), 'c'])
  })

  it('drops the oldest files, and keeps the folder under its cap', () => {
    const file = open({ maxFileBytes: 100, maxTotalBytes: 400 })
    for (let index = 0; index < 50; index += 1) {
      file.write(`${index}`.padStart(49, '.'))
      nowMs += 1000
      expect(readFolder().join('').length).toBeLessThanOrEqual(400)
    }
    const kept = lines().map((line) => Number(line.replaceAll('.', '')))
    expect(kept.at(-1)).toBe(49)
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => 50 - kept.length + index))
  })

  it('gives each writer a file of its own, also within one process and second', () => {
    const writers = [open(), open(), open()]
    for (const [index, writer] of writers.entries()) writer.write(`writer ${index}`)
    expect(files()).toHaveLength(3)
    expect(lines()).toEqual(['writer 0', 'writer 1', 'writer 2'])
  })

  it('goes on in a new file when its directory was deleted under it', () => {
    const file = open()
    file.write('before')
    rmSync(directory, { recursive: true })
    expect(file.write('after')).toBe(true)
    expect(lines()).toEqual(['after'])
  })

  it('lets its directory ignore itself in git', () => {
    open().write('line')
    expect(readFileSync(join(directory, '.gitignore'), 'utf8')).toBe('*\n')
  })

  it("writes no .gitignore into a directory that holds somebody's work", () => {
    mkdirSync(directory)
    writeFileSync(join(directory, 'package.json'), '{}')
    open().write('line')
    expect(readdirSync(directory).sort()).toEqual(['package.json', 'traces'])
  })

  it('refuses a size that is not a positive whole number, and names the option', () => {
    expect(() => open({ maxFileBytes: 0 })).toThrow(/"maxFileBytes" must be .* received 0/)
  })
})

describe('a rotating file that cannot be written', () => {
  it('reports once, names the mend, drops lines and never throws', () => {
    writeFileSync(directory, 'a file where the directory should be')
    const failures: Error[] = []
    const file = open({ onFailure: (error) => failures.push(error) })
    for (let index = 0; index < 10; index += 1) {
      expect(file.write('line')).toBe(false)
      nowMs += 10_000
    }
    expect(file.droppedLines).toBe(10)
    expect(failures).toHaveLength(1)
    expect(failures[0]?.message).toMatch(/cannot write to .*traces .*set THROUGHLINE_DIR/)
  })

  it('tries again after a while, and writes on when it can', () => {
    writeFileSync(directory, '')
    const file = open({ onFailure: () => {} })
    file.write('lost')
    rmSync(directory)
    expect(file.write('too soon')).toBe(false)
    nowMs += 10_000
    expect(file.write('kept')).toBe(true)
    expect(lines()).toEqual(['kept'])
    expect(file.droppedLines).toBe(2)
  })

  // /dev/full answers every write with ENOSPC.
  it.skipIf(process.platform !== 'linux')('survives a full disk', async () => {
    const script = `
      import fs from 'node:fs'
      import { syncBuiltinESMExports } from 'node:module'
      import { createLogFile } from ${JSON.stringify(builtModule)}
      const { openSync } = fs
      fs.openSync = () => openSync('/dev/full', 'w')
      syncBuiltinESMExports()
      const log = createLogFile(${JSON.stringify(directory)})
      for (let i = 0; i < 3; i += 1) log.write('line')
      console.log('alive')`
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [
      '--input-type=module',
      '--eval',
      script,
    ])
    expect(stdout).toBe('alive\n')
    expect(stderr.match(/ENOSPC/g)).toHaveLength(1)
  })
})

describe('a log file', () => {
  it('takes the lines of a logger', async () => {
    const log = createLogFile(directory)
    log.write('{"msg":"hello"}\n')
    await log.flush()
    expect(lines('logs')).toEqual(['{"msg":"hello"}'])
  })
})

/** Child processes run what `npm run build` made. */
const builtModule = new URL('../../dist/instrumentation/local-files/index.js', import.meta.url).href

function open(options: RotatingFileOptions = {}): RotatingFile {
  return new RotatingFile(directory, 'traces', { nowMs: () => nowMs, ...options })
}

function files(folder = 'traces'): string[] {
  return readdirSync(join(directory, folder)).sort()
}

function readFolder(folder = 'traces'): string[] {
  return files(folder).map((name) => readFileSync(join(directory, folder, name), 'utf8'))
}

function lines(folder = 'traces'): string[] {
  return readFolder(folder).flatMap((text) => text.trimEnd().split('\n'))
}
