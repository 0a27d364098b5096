/** Found lines with what the same request wrote around them, each group under a blank line. */
import type { ReadLine } from '../../query/logs/context-lines.js'
import type { Output } from '../terminal/output.js'
import type { Terminal } from '../terminal/terminal.js'
import type { WriteLine } from './print-lines.js'

export interface ContextFormat {
  write: WriteLine
  /** Lines alone, for programs. */
  isBare: boolean
  terminal: Terminal
}

/** Returns how many groups there are. Stops when nobody reads any more. */
export async function printContext(
  groups: AsyncIterable<readonly ReadLine[]> | Iterable<readonly ReadLine[]>,
  format: ContextFormat,
  output: Output,
): Promise<number> {
  let found = 0
  for await (const group of groups) {
    if (output.isClosed) break
    const separator = found === 0 || format.isBare ? '' : '\n'
    found += 1
    await output.write(separator + group.map((line) => lineText(line, format)).join(''))
  }
  return found
}

/** A mark stands before what was found. */
function lineText(line: ReadLine, { write, isBare, terminal }: ContextFormat): string {
  const text = write(line)
  if (isBare) return text
  const { colors, glyphs } = terminal
  const mark = line.isFound ? `${colors.yellow(glyphs.found)} ` : '  '
  return text
    .split('\n')
    .map((part, index, { length }) => (index === length - 1 ? part : (index === 0 ? mark : '  ') + part))
    .join('\n')
}
