/** A moment as the reader's clock shows it. */
export interface LocalTime {
  /** `2026-11-24` */
  date: string
  /** `04:15:00.123` */
  time: string
  /** `UTC`, or what local time is ahead of it: `+05:30`. */
  zone: string
}

/** Undefined for a time that no calendar has: files may hold any number. */
export function localTime(timeMs: number): LocalTime | undefined {
  const moment = new Date(timeMs)
  const offsetMinutes = -moment.getTimezoneOffset()
  const shifted = new Date(timeMs + offsetMinutes * 60_000)
  if (Number.isNaN(shifted.getTime())) return undefined
  const [date = '', time = ''] = shifted.toISOString().slice(0, -1).split('T')
  return { date, time, zone: zoneOf(offsetMinutes) }
}

function zoneOf(offsetMinutes: number): string {
  if (offsetMinutes === 0) return 'UTC'
  const minutes = Math.abs(offsetMinutes)
  return `${offsetMinutes < 0 ? '-' : '+'}${twoDigits(Math.floor(minutes / 60))}:${twoDigits(minutes % 60)}`
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0')
}
