/** Standard output, or the pager that a person reads it with. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Writable } from 'node:stream'

/** Texts are gathered up to this before they are written, in UTF-16 units. */
const GATHERED_UNITS = 64 * 1024

export interface Output {
  /** True when nobody reads any more: the pager was left. */
  readonly isClosed: boolean
  /** What is written is shown at the latest when the process has nothing else to do. */
  write(text: string): void | Promise<void>
  /** Waits until all is read. */
  end(): Promise<void>
}

export interface OutputOptions {
  isPaged: boolean
  env: NodeJS.ProcessEnv
  /** Called before something is shown. */
  beforeWrite(to: 'pager' | 'standard output'): void
}

/**
 * A pager is for terminals only: `PAGER`, as the shell runs it, else less where it is installed, which ends by itself
 * when all fits on the screen. `PAGER=` and `PAGER=cat` mean none.
 */
export function openOutput(options: OutputOptions): Output {
  const pager = options.isPaged && process.stdout.isTTY ? pagerOf(options.env) : undefined
  let paging: Paging | undefined
  let gathered = ''
  let isScheduled = false

  const flush = (): void | Promise<void> => {
    isScheduled = false
    const text = gathered
    gathered = ''
    if (text === '' || paging?.isClosed) return
    options.beforeWrite(pager === undefined ? 'standard output' : 'pager')
    // Only now: what is found nowhere needs no pager.
    if (pager !== undefined) paging ??= startPager(pager, options.env)
    const stream: Writable = paging?.input ?? process.stdout
    // A reader that is slow is waited for: memory stays bounded.
    if (!stream.write(text)) return drained(stream)
  }
  return {
    get isClosed() {
      return paging?.isClosed ?? false
    },
    write(text) {
      gathered += text
      if (gathered.length >= GATHERED_UNITS) return flush()
      if (!isScheduled) setImmediate(flush)
      isScheduled = true
    },
    async end() {
      await flush()
      await paging?.end()
    },
  }
}

function drained(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      stream.off('drain', end).off('close', end)
      resolve()
    }
    stream.on('drain', end).on('close', end)
  })
}

interface Paging {
  input: Writable
  readonly isClosed: boolean
  end(): Promise<void>
}

function startPager(pager: string, env: NodeJS.ProcessEnv): Paging {
  const child: ChildProcess = spawn(pager, {
    shell: true,
    stdio: ['pipe', 'inherit', 'inherit'],
    // Ends when all fits, shows colours, leaves the text on the screen: as git does.
    env: { LESS: 'FRX', LV: '-c', ...env },
  })
  const input = child.stdin as Writable
  const ended = once(child, 'close')
  let isClosed = false
  const close = () => {
    isClosed = true
    input.destroy()
  }
  input.on('error', close)
  child.on('close', close)
  // Ctrl-C is the pager's: it stops waiting for more. Nothing more is read then, and what is there stays on the screen.
  process.on('SIGINT', close)
  return {
    input,
    get isClosed() {
      return isClosed
    },
    async end() {
      input.end()
      await ended
      process.off('SIGINT', close)
    },
  }
}

function pagerOf({ PAGER, PATH }: NodeJS.ProcessEnv): string | undefined {
  if (PAGER !== undefined) return PAGER.trim() === '' || PAGER.trim() === 'cat' ? undefined : PAGER
  return (PATH ?? '').split(delimiter).some((folder) => isExecutable(join(folder, 'less')))
    ? 'less'
    : undefined
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
