/** A bounded flush when the process is asked to end, so that the last spans are not lost. */
import { processWide } from '../src/context/index.js'

/**
 * Flushes on SIGTERM, SIGINT and `beforeExit`, for at most `timeoutMs`.
 *
 * Next ends the process itself from its own signal handler, as soon as its server is closed. So while the
 * flush runs, `process.exit` is held back and carried out afterwards.
 */
export function flushOnShutdown(flush: () => Promise<void>, timeoutMs: number): void {
  const state = processWide('instrumentation.shutdown', () => ({ isFlushing: false }))

  const boundedFlush = async () => {
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs)
    })
    await Promise.race([flush().catch(() => {}), deadline])
    clearTimeout(timer)
  }

  const onSignal = (signal: NodeJS.Signals) => {
    if (state.isFlushing) return
    state.isFlushing = true
    const exit = process.exit
    let heldExit: { code: number | string | null | undefined } | undefined
    process.exit = ((code?: number | string | null) => {
      heldExit ??= { code }
    }) as typeof process.exit
    void boundedFlush().then(() => {
      process.exit = exit
      if (heldExit !== undefined) exit(heldExit.code)
      // Nobody else handles the signal, and our listener took its default away: carry that out.
      if (process.listenerCount(signal) <= 1) exit(signal === 'SIGINT' ? 130 : 143)
    })
  }

  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  process.once('beforeExit', () => void boundedFlush())
}
