/** Destinations that a user gives to `createLogger`: pino's own, rotated files, workers, and those that fail. */
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pino from 'pino'
// @ts-expect-error It has no types.
import pinoRoll from 'pino-roll'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createLogger } from '../../src/logging/index.ts'
import { mustRun } from '../support/command.ts'
import { eventually } from '../support/eventually.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

let folder: string
let warnings: string[]
const collectWarning = (warning: Error) => void warnings.push(warning.message)
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'throughline-destinations-'))
  warnings = []
  process.on('warning', collectWarning)
})
afterEach(() => {
  vi.useRealTimers()
  process.off('warning', collectWarning)
  rmSync(folder, { recursive: true, force: true })
})

describe('pino-roll as the destination', () => {
  it('has its files, by size and day, read back in the order they were written', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] })
    const evening = new Date().setHours(23, 59, 59, 0)
    vi.setSystemTime(evening)
    const stream: pino.DestinationStream & NodeJS.EventEmitter & { end(): void } = await pinoRoll({
      file: join(folder, 'app.log'),
      size: '1k',
      frequency: 'daily',
      dateFormat: 'yyyy-MM-dd',
    })
    const log = createLogger({ destination: stream })
    const write = async (index: number) => {
      const drained = once(stream, 'drain')
      log.info({ index, pad: '.'.repeat(200) }, 'line')
      await drained
    }
    for (let index = 0; index < 60; index += 1) await write(index)
    const filesOfTheDay = readdirSync(folder).length
    // More than nine: the tenth sorts before the second, by its letters.
    expect(filesOfTheDay).toBeGreaterThan(10)
    vi.advanceTimersByTime(2000)
    await once(stream, 'ready')
    for (let index = 60; index < 65; index += 1) await write(index)
    stream.end()
    await once(stream, 'close')

    const days = new Set(readdirSync(folder).map((name) => name.split('.')[1]))
    expect(days).toEqual(new Set([dateOf(evening), dateOf(evening + 2000)]))
    for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).size).toBeLessThan(1500)
    const { stdout } = await mustRun(process.execPath, [MAIN, 'logs', 'msg = line', folder, '--json'])
    const found = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).index)
    expect(found).toEqual(Array.from({ length: 65 }, (_, index) => index))
  })
})

describe('a destination of pino', () => {
  it('may be a worker', async () => {
    const file = join(folder, 'app.log')
    const transport = pino.transport({ target: 'pino/file', options: { destination: file } })
    const log = createLogger({ destination: transport })
    log.info('line')
    transport.end()
    await once(transport, 'close')
    expect(readFileSync(file, 'utf8')).toContain('"msg":"line"')
  })

  it('may be several, by level', () => {
    const lines: Record<string, string[]> = { all: [], errors: [] }
    const log = createLogger({
      destination: pino.multistream([
        { level: 'info', stream: { write: (line) => lines.all?.push(line) } },
        { level: 'error', stream: { write: (line) => lines.errors?.push(line) } },
      ]),
    })
    log.info('fine')
    log.error('not fine')
    expect([lines.all?.length, lines.errors?.length]).toEqual([2, 1])
  })
})

describe('a destination that fails', () => {
  it('throws into no caller, and is reported once', async () => {
    const log = createLogger({
      destination: {
        write() {
          throw new Error('closed')
        },
      },
    })
    for (let index = 0; index < 3; index += 1) log.info('lost')
    await eventually(() =>
      expect(warnings).toEqual([expect.stringMatching(/createLogger failed \(closed\)/)]),
    )
  })

  it('throws into no caller when it is a stream that was closed', async () => {
    const destination = pino.destination({ dest: join(folder, 'app.log'), sync: true })
    const log = createLogger({ destination })
    destination.destroy()
    expect(() => log.info('lost')).not.toThrow()
    await eventually(() => expect(warnings).toHaveLength(1))
  })

  // /dev/full answers every write with ENOSPC.
  it.skipIf(process.platform !== 'linux').each([true, false])(
    'ends no process when the disk is full, nor hangs after fatal (sync: %s)',
    async (sync) => {
      const log = createLogger({ destination: pino.destination({ dest: '/dev/full', sync }) })
      log.info('lost')
      await eventually(() => expect(warnings).toEqual([expect.stringContaining('ENOSPC')]))
      log.fatal('lost')
      log.info('lost')
      expect(warnings).toHaveLength(1)
    },
  )

  it('is written again when it can be', async () => {
    const file = join(folder, 'logs', 'app.log')
    mkdirSync(join(folder, 'logs'))
    let isFull = true
    const stream = pino.destination({ dest: file, sync: true })
    const log = createLogger({
      destination: {
        write(line) {
          if (isFull) throw new Error('ENOSPC')
          stream.write(line)
        },
      },
    })
    log.info('lost')
    isFull = false
    log.info('kept')
    expect(readFileSync(file, 'utf8')).toMatch(/^.*"msg":"kept"}\n$/)
  })
})

/** The local date, as pino-roll names it. */
function dateOf(epochMs: number): string {
  const date = new Date(epochMs)
  const two = (number: number) => String(number).padStart(2, '0')
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
}
