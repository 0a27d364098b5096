/**
 * What is left of log lines when a process dies, a disk is full or nobody reads: child processes on the built
 * package. A line is acknowledged when `write` has returned for the local files, and when `logger.flush()` calls
 * back for standard output.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCommand } from '../support/command.ts'
import { eventually } from '../support/eventually.ts'
import { requireOrSkip } from '../support/required.ts'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))
const MAIN = join(REPOSITORY, 'dist/src/cli/main.js')

let directory: string
let processes: ChildProcess[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'throughline-'))
  processes = []
})
afterEach(() => {
  for (const child of processes) child.kill('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

describe('a process that is killed', () => {
  it.each([1, 2, 3, 50, 51, 400, 2000])(
    'has every line in its local files that it acknowledged, when it dies after the %dth',
    async (count) => {
      const child = start(`
        await register()
        for (let index = 1; ; index += 1) {
          logger.info({ index }, 'line')
          fs.writeSync(3, index + '\\n')
        }
      `)
      const acknowledged = lastNumberOf(child)
      await eventually(() => expect(acknowledged()).toBeGreaterThanOrEqual(count))
      child.kill('SIGKILL')
      await once(child, 'close')
      const logs = await runCommand(process.execPath, [
        MAIN,
        'logs',
        '--json',
        '-n',
        '1000000',
        '--dir',
        directory,
      ])
      const found = new Set(linesOf(logs.stdout).map((line) => line.index))
      expect(found.size).toBeGreaterThanOrEqual(acknowledged())
      for (let index = 1; index <= acknowledged(); index += 1) expect(found).toContain(index)
      expect(logs.stderr).not.toContain('lines are no JSON')
    },
  )

  it('has every line on standard output that logger.flush() acknowledged', async () => {
    const output = join(directory, 'output')
    const child = start(
      `
      for (let index = 1; index <= 500; index += 1) logger.info({ index }, 'line')
      logger.flush(() => {
        fs.writeSync(3, '500\\n')
        process.kill(process.pid, 'SIGKILL')
      })
      `,
      { stdout: openSync(output, 'w') },
    )
    const acknowledged = lastNumberOf(child)
    await once(child, 'close')
    expect(acknowledged()).toBe(500)
    expect(linesOf(readFileSync(output, 'utf8'))).toHaveLength(500)
  })
})

describe('a process that ends', () => {
  it.each([
    ['by an exception', 'setTimeout(() => { throw new Error("no stock") })'],
    ['by process.exit', 'process.exit(1)'],
    ['because there is nothing to do', 'process.exitCode = 1'],
  ])('%s has written every line', async (_how, ending) => {
    const child = start(`
      for (let index = 1; index <= 2000; index += 1) logger.info({ index }, 'line')
      ${ending}
    `)
    const [output] = await Promise.all([text(stdoutOf(child)), once(child, 'close')])
    expect(child.exitCode).toBe(1)
    const found = new Set(linesOf(output).map((line) => line.index))
    expect(found).toEqual(new Set(Array.from({ length: 2000 }, (_, index) => index + 1)))
  })
})

describe('standard output that nobody takes', () => {
  it('fails no request when its reader is gone, is warned of once, and lets the process end', async () => {
    const child = start(SERVER)
    const errors = collect(child.stderr)
    const url = await urlOf(child)
    expect((await fetch(url)).status).toBe(200)
    await once(stdoutOf(child), 'readable')
    stdoutOf(child).destroy()
    for (let request = 0; request < 30; request += 1) expect((await fetch(url)).status).toBe(200)
    await eventually(() => expect(errors()).toMatch(/standard output \((?:EPIPE|ECONNRESET)\)/))
    child.kill('SIGTERM')
    await once(child, 'exit')
    expect(child.exitCode).toBe(143)
    expect(errors().match(/cannot write log lines/g)).toHaveLength(1)
  })

  it('keeps 16 MiB of lines while its reader does not read, counts the others, and says so when it reads', async () => {
    const count = 40_000
    const child = start(`
      const pad = '.'.repeat(1000)
      for (let index = 1; index <= ${count}; index += 1) logger.info({ index, pad }, 'line')
      fs.writeSync(3, '1\\n')
      process.on('message', () => logger.flush(() => process.exit()))
    `)
    const written = lastNumberOf(child)
    await eventually(() => expect(written()).toBe(1))
    const reading = text(stdoutOf(child))
    await eventually(() => expect(child.send('read')).toBe(true))
    const lines = linesOf(await reading)
    const kept = lines.filter((line) => line.msg === 'line')
    const dropped = lines.filter((line) => line.dropped_lines !== undefined)
    expect(dropped).toHaveLength(1)
    expect(kept.length + Number(dropped[0]?.dropped_lines)).toBe(count)
    expect(kept.map((line) => line.index)).toEqual(kept.map((_, index) => index + 1))
    expect(kept.length * 1000).toBeGreaterThan(14 * 1024 * 1024)
    expect(kept.length * 1000).toBeLessThan(17 * 1024 * 1024)
  })
})

describe.skipIf(!canMountDisk())('a full disk', () => {
  let disk: string
  beforeEach(() => {
    disk = mkdtempSync(join(tmpdir(), 'throughline-disk-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk])
  })
  afterEach(async () => {
    for (const child of processes) child.kill('SIGKILL')
    await Promise.all(processes.map((child) => child.signalCode ?? child.exitCode ?? once(child, 'exit')))
    execFileSync('umount', [disk])
    rmSync(disk, { recursive: true, force: true })
  })

  it('fails no request, and has the lines that come when there is room again in the local files', async () => {
    fill(disk)
    const child = start(SERVER, { directory: join(disk, 'local') })
    stdoutOf(child).resume()
    const errors = collect(child.stderr)
    const url = await urlOf(child)
    for (let request = 0; request < 20; request += 1) expect((await fetch(url)).status).toBe(200)
    await eventually(() => expect(errors()).toMatch(/cannot write to .*logs \(ENOSPC\)/))
    rmSync(join(disk, 'filler'))
    await eventually(async () => {
      expect((await fetch(url)).status).toBe(200)
      expect(linesIn(join(disk, 'local/logs')).map((line) => line.msg)).toContain('request completed')
    }, 20_000)
    expect(errors().match(/cannot write to .*logs/g)).toHaveLength(1)
  })

  it('fails no request, and has a line that counts what was lost on standard output', async () => {
    const output = join(disk, 'output')
    const child = start(SERVER, { stdout: openSync(output, 'w') })
    const errors = collect(child.stderr)
    const url = await urlOf(child)
    fill(disk)
    for (let request = 0; request < 40; request += 1) expect((await fetch(url)).status).toBe(200)
    await eventually(() => expect(errors()).toMatch(/standard output \(ENOSPC\)/))
    rmSync(join(disk, 'filler'))
    const lines = await eventually(async () => {
      expect((await fetch(url)).status).toBe(200)
      const written = linesOf(readFileSync(output, 'utf8'))
      expect(written.some((line) => line.dropped_lines !== undefined)).toBe(true)
      return written
    })
    const toldOf = lines.find((line) => line.dropped_lines !== undefined)
    expect(toldOf?.dropped_lines).toBeGreaterThan(0)
    child.kill('SIGTERM')
    await once(child, 'exit')
    expect(child.exitCode).toBe(143)
  })
})

/** A server that logs a line per request, and says where it listens. */
const SERVER = `
  await register()
  const server = createServer((request, response) => {
    logger.info({ pad: '.'.repeat(300) }, 'line')
    response.end('done')
  }).listen(0, '127.0.0.1', () => fs.writeSync(3, server.address().port + '\\n'))
`

const PRELUDE = `
  import fs from 'node:fs'
  import { createServer } from 'node:http'
  import { logger } from 'throughline/logging'
  import { register } from 'throughline/instrumentation'
`

interface StartOptions {
  /** A file's descriptor, closed here. Default: a pipe. */
  stdout?: number
  /** Where the local files go. Default: the test's directory. */
  directory?: string
}

/** Starts a script, whose descriptor 3 is a pipe for what it acknowledges. */
function start(script: string, options: StartOptions = {}): ChildProcess {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', PRELUDE + script], {
    cwd: REPOSITORY,
    env: { ...BARE_ENV, OTEL_SDK_DISABLED: 'true', THROUGHLINE_DIR: options.directory ?? directory },
    stdio: ['ignore', options.stdout ?? 'pipe', 'pipe', 'pipe', 'ipc'],
  })
  if (options.stdout !== undefined) closeSync(options.stdout)
  processes.push(child)
  return child
}

function stdoutOf(child: ChildProcess): Readable {
  if (child.stdout === null) throw new Error('Its standard output is no pipe.')
  return child.stdout
}

/** What a stream has brought so far. */
function collect(stream: Readable | null | undefined): () => string {
  let received = ''
  stream?.setEncoding('utf8').on('data', (chunk: string) => {
    received += chunk
  })
  return () => received
}

/** The last number that came on descriptor 3 with its line end; 0 before the first. */
function lastNumberOf(child: ChildProcess): () => number {
  const received = collect(child.stdio[3] as Readable)
  return () => Number(/(\d+)\n\d*$/.exec(received())?.[1] ?? 0)
}

async function urlOf(child: ChildProcess): Promise<string> {
  const port = lastNumberOf(child)
  await eventually(() => expect(port()).toBeGreaterThan(0))
  return `http://127.0.0.1:${port()}/`
}

type Line = Record<string, unknown>

/** The lines that are JSON; at most one may be torn. */
function linesOf(output: string): Line[] {
  let torn = 0
  const lines = output
    .split('\n')
    .filter((line) => line !== '')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as Line]
      } catch {
        torn += 1
        return []
      }
    })
  expect(torn).toBeLessThanOrEqual(1)
  return lines
}

function linesIn(folder: string): Line[] {
  return readdirSync(folder).flatMap((name) => linesOf(readFileSync(join(folder, name), 'utf8')))
}

/** Takes what room there is, but for a few bytes. */
function fill(disk: string): void {
  const file = openSync(join(disk, 'filler'), 'w')
  try {
    for (;;) writeFileSync(file, Buffer.alloc(4096))
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
  } finally {
    closeSync(file)
  }
}

/** True where a small file system can be mounted, as root. */
function canMountDisk(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'throughline-disk-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder], { stdio: 'ignore' })
    execFileSync('umount', [folder])
    return true
  } catch {
    requireOrSkip(
      'tmpfs',
      'mount -t tmpfs must be allowed: run the tests as root, in a container with CAP_SYS_ADMIN',
    )
    return false
  }
}

/** Without variables that would set up an SDK otherwise. */
const BARE_ENV = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(OTEL|THROUGHLINE|NEXT|NODE_ENV|VERCEL|VITEST)/.test(name),
  ),
)
