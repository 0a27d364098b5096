/** A duration as people say it, with its unit: `0.42 ms`, `48.2 ms`, `2.13 s`, `4 min 5 s`, `3 h 7 min`. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 10) return `${durationMs.toFixed(2)} ms`
  if (durationMs < 100) return `${durationMs.toFixed(1)} ms`
  if (durationMs < 1000) return `${durationMs.toFixed(0)} ms`
  const seconds = durationMs / 1000
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`
}
