/** A thread that looks for lines beside others: see `parallel-lines.ts`. */
import { parentPort, workerData } from 'node:worker_threads'
import { AHEAD, SHARED, selectionFor, type ThreadData, type ThreadMessage } from './parallel-lines.js'
import { type Slice, type SliceLines, SliceReader } from './slice-lines.js'

const { filter, slices, shared } = workerData as ThreadData
const select = selectionFor(filter)
const reader = new SliceReader()
for (;;) {
  const number = Atomics.add(shared, SHARED.next, 1)
  const slice = slices[number]
  if (slice === undefined || !isMyTurn(number)) break
  parentPort?.postMessage({ slice: number, lines: linesOf(slice) } satisfies ThreadMessage)
}
reader.close()

function linesOf(slice: Slice): SliceLines | undefined {
  try {
    return reader.lines(slice, select)
  } catch {
    return undefined
  }
}

/** Waits until it is not too far ahead; false when all is over. */
function isMyTurn(number: number): boolean {
  for (;;) {
    if (Atomics.load(shared, SHARED.isOver) === 1) return false
    const given = Atomics.load(shared, SHARED.given)
    if (number - given <= AHEAD) return true
    Atomics.wait(shared, SHARED.given, given)
  }
}
