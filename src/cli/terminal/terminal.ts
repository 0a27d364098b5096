/** What the output can show. */
import picocolors from 'picocolors'
import { jaegerUrlOf } from './jaeger-link.js'

export type Colors = ReturnType<typeof picocolors.createColors>

/** Box drawing and marks; plain ASCII where the locale is not UTF-8. */
export interface Glyphs {
  branch: string
  lastBranch: string
  logBranch: string
  lastLogBranch: string
  trunk: string
  bar: string
  shortBar: string
  dot: string
  flag: string
  back: string
  found: string
  forth: string
  cross: string
  times: string
  separator: string
  ellipsis: string
}

export interface Terminal {
  /** Cells in a line. */
  width: number
  colors: Colors
  glyphs: Glyphs
  /** Texts may be links. */
  hasLinks: boolean
  /** Where traces can be looked at: `THROUGHLINE_JAEGER_URL`. */
  jaegerUrl: string | undefined
}

const DEFAULT_WIDTH = 100

const UNICODE: Glyphs = {
  branch: '├─ ',
  lastBranch: '└─ ',
  logBranch: '├╴ ',
  lastLogBranch: '└╴ ',
  trunk: '│  ',
  bar: '━',
  shortBar: '╸',
  dot: '·',
  flag: '⚑',
  back: '↩',
  found: '›',
  forth: '↪',
  cross: '✗',
  times: '×',
  separator: '·',
  ellipsis: '…',
}

const ASCII: Glyphs = {
  branch: '|- ',
  lastBranch: '`- ',
  logBranch: '|  ',
  lastLogBranch: '`  ',
  trunk: '|  ',
  bar: '=',
  shortBar: '-',
  dot: '.',
  flag: '!',
  back: '<-',
  found: '>',
  forth: '->',
  cross: 'x',
  times: 'x',
  separator: '-',
  ellipsis: '...',
}

/**
 * Colours are for terminals only: not in a pipe or file, not with `NO_COLOR` (https://no-color.org) or
 * `--no-color`. picocolors' own guess is not used, for it colours pipes in CI.
 */
export function terminalOf(
  stream: { isTTY?: boolean; columns?: number },
  env: Record<string, string | undefined>,
  isColorWanted: boolean,
): Terminal {
  const isColored = isColorWanted && stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb'
  return {
    width: stream.columns || DEFAULT_WIDTH,
    colors: picocolors.createColors(isColored),
    glyphs: isUtf8(env) ? UNICODE : ASCII,
    hasLinks: isColored,
    jaegerUrl: jaegerUrlOf(env),
  }
}

// A container often has no locale at all, and a terminal outside that speaks UTF-8: only a locale that
// says otherwise counts.
function isUtf8(env: Record<string, string | undefined>): boolean {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG
  return !locale || /utf-?8/i.test(locale)
}
