/** The CPU time of a process, all its threads and its descendants, from Linux' /proc. */
import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ: the unit of /proc/<pid>/stat on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

interface ProcessStat {
  parent: number
  ticks: number
}

/** Microseconds of user and system time since the process began, or undefined where there is no /proc. */
export function cpuMicroseconds(pid: number): number | undefined {
  const stats = readStats()
  if (!stats.has(pid)) return undefined
  let ticks = 0
  for (const [candidate, stat] of stats) if (isWithin(candidate, pid, stats)) ticks += stat.ticks
  return (ticks / TICKS_PER_SECOND) * 1e6
}

function readStats(): Map<number, ProcessStat> {
  const stats = new Map<number, ProcessStat>()
  let entries: string[]
  try {
    entries = readdirSync('/proc')
  } catch {
    return stats
  }
  for (const entry of entries) {
    if (!/^\d+$/.test(entry)) continue
    try {
      stats.set(Number(entry), parseStat(readFileSync(`/proc/${entry}/stat`, 'utf8')))
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return stats
}

// "pid (name) state ppid …": the name may hold spaces and parentheses, so fields count from its end.
// utime, stime, cutime and cstime (descendants that have ended) are fields 14 to 17.
function parseStat(text: string): ProcessStat {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return {
    parent: Number(fields[1]),
    ticks: fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0),
  }
}

function isWithin(pid: number, ancestor: number, stats: Map<number, ProcessStat>): boolean {
  for (let current: number | undefined = pid; current !== undefined; current = stats.get(current)?.parent) {
    if (current === ancestor) return true
  }
  return false
}
