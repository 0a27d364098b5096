/** Lines of context: what the same request wrote around a found line. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { inContext } from '../../src/query/logs/context-lines.ts'
import type { ReadLine } from '../../src/query/logs/log-line.ts'

interface Written {
  id: string | undefined
  isFound: boolean
}

const written = fc.array(
  fc.record({
    id: fc.constantFrom('a', 'b', 'c', undefined),
    isFound: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
  }),
  { maxLength: 60 },
)

async function groupsOf(lines: readonly Written[], count: number): Promise<number[][]> {
  const groups: number[][] = []
  for await (const group of inContext(readLines(lines), count))
    groups.push(group.map(({ entry }) => Number(entry.number)))
  return groups
}

async function* readLines(lines: readonly Written[]): AsyncGenerator<ReadLine> {
  for (const [number, { id, isFound }] of lines.entries())
    yield lineOf({ number, correlation_id: id }, isFound)
}

function lineOf(entry: Record<string, unknown>, isFound: boolean): ReadLine {
  return { text: JSON.stringify(entry), entry, isFound }
}

/** Said of each request apart, by places among its own lines. */
function expectedGroups(lines: readonly Written[], count: number): number[][] {
  const numbered = lines.map((line, number) => ({ ...line, number }))
  const groups: number[][] = numbered
    .filter(({ id, isFound }) => id === undefined && isFound)
    .map(({ number }) => [number])
  for (const id of ['a', 'b', 'c']) {
    const own = numbered.filter((line) => line.id === id)
    let shownTo = -1
    for (let at = 0; at < own.length; at += 1) {
      if (at <= shownTo || !own[at]?.isFound) continue
      let end = at + count
      for (let next = at + 1; next <= end && next < own.length; next += 1)
        if (own[next]?.isFound) end = next + count
      groups.push(own.slice(Math.max(shownTo + 1, at - count), end + 1).map(({ number }) => number))
      shownTo = end
    }
  }
  const began = (group: number[]) => group.find((number) => numbered[number]?.isFound) ?? 0
  return groups.sort((a, b) => began(a) - began(b))
}

describe('a found line in its context', () => {
  it('stands among lines of its request alone, each once, in the order of what was found', async () => {
    await fc.assert(
      fc.asyncProperty(written, fc.integer({ min: 1, max: 4 }), async (lines, count) => {
        expect(await groupsOf(lines, count)).toEqual(expectedGroups(lines, count))
      }),
      { numRuns: 2_000 },
    )
  })

  it('is followed to the end of its context, though an earlier group of its request had to wait for another', async () => {
    const found = (id: string) => ({ id, isFound: true })
    const other = (id: string) => ({ id, isFound: false })
    const lines = [found('b'), found('a'), other('a'), found('a'), other('b'), other('a')]
    expect(await groupsOf(lines, 1)).toEqual([
      [0, 4],
      [1, 2],
      [3, 5],
    ])
  })

  it('comes while the file is read, though its request never ends', async () => {
    const lines = Array.from({ length: 50_000 }, (_, number) => ({ id: `r${number}`, isFound: number === 3 }))
    let read = 0
    const counted = async function* () {
      for await (const line of readLines(lines)) {
        read += 1
        yield line
      }
    }
    for await (const group of inContext(counted(), 5)) expect(group).toHaveLength(1)
    const groups = inContext(counted(), 5)
    read = 0
    await groups.next()
    expect(read).toBeLessThan(lines.length)
  })

  it('is kept in bounded memory, whatever the number of requests and the length of their lines', async () => {
    const text = 'x'.repeat(100_000)
    const long = async function* (): AsyncGenerator<ReadLine> {
      for (let number = 0; number < 4_000; number += 1)
        yield lineOf({ correlation_id: `r${number}`, text }, number % 2 === 0)
    }
    let largestMb = 0
    let lines = 0
    for await (const group of inContext(long(), 100)) {
      lines += group.length
      if (lines % 100 === 0) largestMb = Math.max(largestMb, process.memoryUsage().heapUsed / 1e6)
    }
    expect(lines).toBe(2_000)
    expect(largestMb).toBeLessThan(250)
  })
})
