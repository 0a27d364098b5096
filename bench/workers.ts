/**
 * Contestants in processes of their own: another's garbage and compiled code never weigh on one, and its CPU time
 * is that of its process. The benchmark tells them by messages what to do; no two work at once.
 */
import { type ChildProcess, type ForkOptions, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { progress, rotated } from './benchmark.ts'
import { atEnd } from './processes.ts'

/** By task and worker, in the order of rounds. */
export type Samples<Sample> = Record<string, Record<string, Sample[]>>

export interface Turns<Sample> {
  workers: ReadonlyMap<string, ChildProcess>
  rounds: number
  /** What to ask of each worker, by the title that progress shows. */
  tasks: Readonly<Record<string, object>>
  /** Done before each turn. */
  before?: () => Promise<unknown>
  /** One figure of a sample, for progress. */
  describe(sample: Sample): string
}

/** Starts a worker and waits until it answers tasks (`answerTasks`). It ends with the benchmark. */
export async function startWorker(
  script: URL,
  args: readonly string[],
  options: ForkOptions = {},
): Promise<ChildProcess> {
  const worker = fork(fileURLToPath(script), args, options)
  atEnd(() => worker.kill())
  await answerOf(worker)
  return worker
}

/** @throws {Error} when the worker ends before it has answered; it has printed why. */
export function ask<Answer>(worker: ChildProcess, task: object): Promise<Answer> {
  worker.send(task)
  return answerOf(worker) as Promise<Answer>
}

/** Ends a worker before the benchmark does. By its own `exit`: it still writes its profile (`--cpu-prof`). */
export async function endWorker(worker: ChildProcess): Promise<void> {
  const ended = once(worker, 'exit')
  worker.disconnect()
  await ended
}

/** In the worker: answers each task, one at a time. */
export function answerTasks<Task>(answer: (task: Task) => Promise<object>): void {
  process.on('message', async (task: Task) => void process.send?.(await answer(task)))
  process.once('disconnect', () => process.exit())
  process.send?.('ready')
}

/** Each worker does each task once a round, in an order that rotates. The first round warms up. */
export async function sampleInTurns<Sample>({
  workers,
  rounds,
  tasks,
  before,
  describe,
}: Turns<Sample>): Promise<Samples<Sample>> {
  const samples: Samples<Sample> = {}
  for (let round = 0; round <= rounds; round += 1) {
    const title = round === 0 ? 'warming up' : `round ${round}/${rounds}`
    for (const [taskTitle, task] of Object.entries(tasks)) {
      samples[taskTitle] ??= {}
      for (const [name, worker] of rotated([...workers], round)) {
        await before?.()
        const sample = await ask<Sample>(worker, task)
        progress(`${title} ${taskTitle}, ${name}: ${describe(sample)}`)
        samples[taskTitle][name] ??= []
        if (round > 0) samples[taskTitle][name].push(sample)
      }
    }
  }
  return samples
}

async function answerOf(worker: ChildProcess): Promise<unknown> {
  const ended = new AbortController()
  const end = () => ended.abort(new Error(`A worker ended: ${worker.spawnargs.slice(2).join(' ')}.`))
  worker.once('exit', end)
  try {
    const [answer] = await once(worker, 'message', { signal: ended.signal })
    return answer
  } finally {
    worker.off('exit', end)
  }
}
