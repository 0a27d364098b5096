/** A thread that stages lines: see `compact.ts`. */
import { parentPort, workerData } from 'node:worker_threads'
import { type StageData, type StageMessage, stageLines } from './stage-lines.js'

const tell = (message: StageMessage) => parentPort?.postMessage(message)
tell(await stageLines(workerData as StageData, (readBytes) => tell({ readBytes })))
