/**
 * `throughline logs` and other ways to ask the same of the same lines. Whole commands, their start included; contestants
 * take turns within a round, in an order that rotates, and a ratio is taken within its round.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Benchmark, type BenchOptions, describeMachine, progress, rotated } from '../benchmark.ts'
import { atEnd } from '../processes.ts'
import type { Samples } from '../workers.ts'
import { makeCorpus } from './corpus.ts'
import { hasGnuTime, type Measured, measure, outputPath } from './measure.ts'
import { installedVersions } from './programs.ts'
import { type Contestant, type Question, questionsOf } from './questions.ts'
import { ratiosOf, rowsOf, tableOf } from './report.ts'

export const logs: Benchmark = {
  summary: 'time and memory of finding and counting log lines: throughline, DuckDB, grep, jq, lnav',
  async run(options) {
    const folder = mkdtempSync(join(tmpdir(), 'throughline-bench-logs-'))
    atEnd(() => rmSync(folder, { recursive: true, force: true }))
    if (!hasGnuTime) progress('CPU time and memory are left out: they need GNU time (apt-get install time).')
    const versions = installedVersions()
    const corpus = await makeCorpus(folder, options)
    const questions = questionsOf(corpus).map((question) => withoutMissing(question, versions))
    const samples = await sampleInTurns(questions, options, folder)
    samples.compact = Object.fromEntries(
      Object.entries(corpus.compacting).map(([name, measured]) => [name, [measured]]),
    )
    const result = {
      bench: 'logs',
      machine: { ...describeMachine(), ...versions },
      options: { ...options },
      rows: rowsOf(samples),
      ratios: ratiosOf(samples),
    }
    return { result, table: tableOf(result) }
  },
}

function withoutMissing(question: Question, versions: Readonly<Record<string, string>>): Question {
  const isHere = ({ command: { program } }: Contestant) => program === process.execPath || program in versions
  const all = Object.entries(question.contestants)
  for (const [name, { command }] of all.filter(([, contestant]) => !isHere(contestant)))
    progress(`${question.title}, ${name}: left out, for ${command.program} is not installed.`)
  return { ...question, contestants: Object.fromEntries(all.filter(([, contestant]) => isHere(contestant))) }
}

/** The first round warms up. In each, all have to give the same answer. */
async function sampleInTurns(
  questions: readonly Question[],
  { rounds }: BenchOptions,
  folder: string,
): Promise<Samples<Measured>> {
  const samples: Samples<Measured> = {}
  for (let round = 0; round <= rounds; round += 1) {
    const roundTitle = round === 0 ? 'warming up' : `round ${round}/${rounds}`
    for (const { title, contestants } of questions) {
      samples[title] ??= {}
      const answers = new Map<string, string>()
      for (const [name, { command, answerOf = linesIn }] of rotated(Object.entries(contestants), round)) {
        const measured = await measure(command, folder)
        progress(`${roundTitle} ${title}, ${name}: ${measured.ms.toFixed(0)} ms`)
        answers.set(name, answerOf(readFileSync(outputPath(folder), 'utf8')))
        samples[title][name] ??= []
        if (round > 0) samples[title][name].push(measured)
      }
      if (new Set(answers.values()).size > 1)
        throw new Error(`${title}: the answers differ.\n${JSON.stringify([...answers], null, 2)}`)
    }
  }
  return samples
}

function linesIn(output: string): string {
  return String(output.split('\n').length - 1)
}
