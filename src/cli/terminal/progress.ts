/** A bar on standard error, for work that takes longer than a second. */
import type { Terminal } from './terminal.js'
import { terminalOf } from './terminal.js'

const AFTER_MS = 1_000
const EVERY_MS = 100
const BAR_WIDTH = 24

export interface Progress {
  /** Makes room for other output; the bar comes again below it. */
  clear(): void
  /** Clears the line, so that it never stands among the output. */
  end(): void
}

/**
 * Nothing is drawn where standard error is no terminal.
 *
 * @param share from 0 to 1; undefined when it cannot be told
 */
export function showProgress(what: string, share: () => number | undefined, isColored: boolean): Progress {
  const { stderr } = process
  if (stderr.isTTY !== true) return { clear() {}, end() {} }
  const terminal = terminalOf(stderr, process.env, isColored)
  const startMs = performance.now()
  let isDrawn = false
  const timer = setInterval(() => {
    if (performance.now() - startMs < AFTER_MS) return
    isDrawn = true
    stderr.write(`\r\x1b[K${barOf(what, share(), terminal)}`)
  }, EVERY_MS)
  timer.unref()
  const clear = () => {
    if (isDrawn) stderr.write('\r\x1b[K')
    isDrawn = false
  }
  return {
    clear,
    end() {
      clearInterval(timer)
      clear()
    },
  }
}

function barOf(what: string, share: number | undefined, { colors, glyphs }: Terminal): string {
  if (share === undefined) return `${what}${glyphs.ellipsis}`
  const cells = Math.min(BAR_WIDTH, Math.floor(share * BAR_WIDTH))
  const bar = colors.cyan(glyphs.bar.repeat(cells)) + colors.dim(glyphs.dot.repeat(BAR_WIDTH - cells))
  return `${what} ${bar} ${Math.min(99, Math.floor(share * 100))} %`
}
