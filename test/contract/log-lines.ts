/** Collects what the process's shared logger writes, in the place of standard output. */
import { afterEach } from 'vitest'
import { processWide } from '../../src/context/index.ts'
import type { LogSink } from '../../src/logging/index.ts'

export type LogLine = Record<string, unknown>

/** The lines of this test file's shared logger, parsed; emptied after each test. Call once, at the top. */
export function collectLogLines(): LogLine[] {
  const lines: LogLine[] = []
  const sinks = processWide<LogSink[]>('logging.sinks', () => [])
  sinks.splice(0, sinks.length, { write: (line) => void lines.push(JSON.parse(line)) })
  afterEach(() => {
    lines.length = 0
  })
  return lines
}
