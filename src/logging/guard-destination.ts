/** A destination that somebody else wrote, made safe to log to: a closed stream, a full disk, a worker that died. */
import type { LogSink } from './sinks.js'

/** What pino and streams have beside `write`. */
interface PinoDestination extends LogSink {
  on?(event: string, listener: (error: Error) => void): unknown
  flushSync?(): void
}

/**
 * The destination, with a `write` that never throws, and with somebody who listens for its `error` event, without
 * whom Node would end the process. The first failure is reported as a process warning.
 */
export function guardDestination<T extends LogSink>(destination: T): T {
  let isReported = false
  let isFailing = false
  const report = (error: unknown) => {
    isFailing = true
    if (isReported) return
    isReported = true
    const message = error instanceof Error ? error.message : String(error)
    process.emitWarning(
      `Throughline: the destination given to createLogger failed (${message}), so lines may be lost; the app runs on.`,
      'ThroughlineWarning',
    )
  }
  const { on, flushSync } = destination as PinoDestination
  if (typeof on === 'function') {
    on.call(destination, 'error', report)
    on.call(destination, 'drain', () => {
      isFailing = false
    })
  }
  const guarded: Record<PropertyKey, unknown> = {
    write(line: string) {
      try {
        destination.write(line)
      } catch (error) {
        report(error)
      }
    },
  }
  if (typeof flushSync === 'function') {
    // pino calls it after `fatal`. That of SonicBoom 4.2 repeats a write that fails for ever.
    guarded.flushSync = () => {
      if (!isFailing) flushSync.call(destination)
    }
  }
  // pino also writes to it (`lastLevel` of a multistream), and asks it for what only some have.
  return new Proxy(destination, {
    get(target, name) {
      if (Object.hasOwn(guarded, name)) return guarded[name]
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
